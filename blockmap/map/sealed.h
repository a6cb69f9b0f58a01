#ifndef BLOCKMAP_MAP_SEALED_H_
#define BLOCKMAP_MAP_SEALED_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "blockmap/base/coding.h"
#include "blockmap/base/result.h"
#include "blockmap/map/superblock.h"

// What anchor, stub, superblock and chain header have in common: a magic of
// eight bytes, a checksum at byte 8 behind it, feature masks, disk identity
// (format.md section 2).  Pure.

namespace bootstream {

// Store the checksum of `bytes`: CRC-32C with its own field (bytes 8 to 11)
// zero.
void Seal(std::span<std::byte> bytes);

// kNotFound: `bytes` do not begin with `magic`; kCorrupt: the checksum is
// wrong.  `what` names the structure in the message.
Status CheckSeal(std::span<const std::byte> bytes, std::string_view magic,
                 std::string_view what);

void PutMagic(ByteWriter& out, std::string_view magic);
void PutFeatures(ByteWriter& out, const FeatureMasks& features);
// kUnsupported if a refuse bit is set that we do not know.
Result<FeatureMasks> GetFeatures(ByteReader& in, std::string_view what);

void PutIdentity(ByteWriter& out, const DiskIdentity& disk);
Result<DiskIdentity> GetIdentity(ByteReader& in, std::string_view what);

bool IsChunkSize(uint32_t chunk_bytes);

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_SEALED_H_
