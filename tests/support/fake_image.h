#ifndef TESTS_SUPPORT_FAKE_IMAGE_H_
#define TESTS_SUPPORT_FAKE_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "blockmap/image/manifest.h"

namespace bootstream {

// Images for tests, in memory.

// `size` bytes that look random and depend on `seed` only.
std::vector<std::byte> RandomBytes(uint64_t size, uint64_t seed);

// What a manifest of `image` says: its data chunks with their real digests, in
// one pack; boot set: chunk 0; tables: sector 0; nothing pinned.  If `pack` is
// given, the pack's bytes are put there; otherwise lengths and offsets are
// made up.
ManifestContent DescribeImage(std::span<const std::byte> image,
                              uint32_t chunk_bytes = kChunkBytesDefault,
                              std::vector<std::byte>* pack = nullptr);

// `content`, signed by a new key and opened again; the file's bytes go to
// `file` if it is given.  Aborts if the content breaks a rule.
Manifest SignAndOpen(const ManifestContent& content,
                     std::vector<std::byte>* file = nullptr);

}  // namespace bootstream

#endif  // TESTS_SUPPORT_FAKE_IMAGE_H_
