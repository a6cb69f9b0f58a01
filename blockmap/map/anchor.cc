#include <algorithm>
#include <cassert>
#include <optional>
#include <vector>

#include "blockmap/map/sealed.h"
#include "blockmap/map/superblock.h"

namespace bootstream {
namespace {

constexpr std::string_view kMagic = "BSANCHR1";
constexpr uint64_t kCandidateGrid = 262144;
constexpr uint64_t kCandidateB = 786432;
constexpr size_t kSlotBytes = 2048;  // sectors 0 and 4
constexpr size_t kFieldsEnd = 168;

Result<Anchor> DecodeSector(std::span<const std::byte> sector) {
  if (auto s = CheckSeal(sector, kMagic, "anchor"); !s) return s.error();
  ByteReader in(sector);
  in.Skip(kMagic.size() + sizeof(uint32_t));
  Anchor anchor;
  anchor.chunk_bytes = in.U32();
  const auto features = GetFeatures(in, "anchor");
  if (!features) return features.error();
  anchor.features = *features;
  anchor.sequence = in.U64();
  anchor.migration_id = in.Array<16>();
  const auto disk = GetIdentity(in, "anchor");
  if (!disk) return disk.error();
  anchor.disk = *disk;
  anchor.target_table_id = in.Array<16>();
  for (DiskChunk& chunk : anchor.superblock_chunks) chunk.value = in.U64();
  if (!IsChunkSize(anchor.chunk_bytes) ||
      anchor.superblock_chunks[0] == anchor.superblock_chunks[1] ||
      !AllZero(sector.subspan(kFieldsEnd))) {
    return Error{ErrorCode::kCorrupt, "anchor: a field makes no sense"};
  }
  return anchor;
}

}  // namespace

std::array<uint64_t, 2> AnchorCandidates(uint64_t disk_size_bytes) {
  const uint64_t whole = disk_size_bytes / kCandidateGrid;
  return {whole == 0 ? kNone : (whole - 1) * kCandidateGrid,
          disk_size_bytes < kCandidateB + kAnchorBytes ? kNone : kCandidateB};
}

std::array<std::byte, kSectorBytes> EncodeAnchor(const Anchor& anchor) {
  std::vector<std::byte> bytes;
  ByteWriter out(bytes);
  PutMagic(out, kMagic);
  out.U32(0);
  out.U32(anchor.chunk_bytes);
  PutFeatures(out, anchor.features);
  out.U64(anchor.sequence);
  out.Bytes(anchor.migration_id);
  PutIdentity(out, anchor.disk);
  out.Bytes(anchor.target_table_id);
  for (const DiskChunk chunk : anchor.superblock_chunks) out.U64(chunk.value);
  assert(out.size() == kFieldsEnd);
  std::array<std::byte, kSectorBytes> sector{};
  std::copy(bytes.begin(), bytes.end(), sector.begin());
  Seal(sector);
  return sector;
}

Result<Anchor> DecodeAnchor(std::span<const std::byte> candidate) {
  assert(candidate.size() == kAnchorBytes);
  std::optional<Anchor> newest;
  for (size_t slot = 0; slot < 2; ++slot) {
    auto anchor =
        DecodeSector(candidate.subspan(slot * kSlotBytes, kSectorBytes));
    if (!anchor) {
      if (anchor.error().code == ErrorCode::kUnsupported) return anchor;
      continue;
    }
    if (!newest || anchor->sequence > newest->sequence) newest = *anchor;
  }
  if (!newest) return Error{ErrorCode::kNotFound, "no anchor here"};
  return *newest;
}

}  // namespace bootstream
