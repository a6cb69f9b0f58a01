#include <algorithm>
#include <cassert>
#include <cstring>
#include <optional>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"
#include "blockmap/map/sealed.h"
#include "blockmap/map/superblock.h"

namespace bootstream {
namespace {

constexpr std::string_view kMagic = "BSANCHR1";
constexpr uint64_t kCandidateGrid = 262144;
constexpr uint64_t kCandidateB = 786432;
constexpr size_t kFieldsEnd = 188;
constexpr uint32_t kLeaving = 1;

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
  anchor.previous_table_id = in.Array<16>();
  const uint32_t flags = in.U32();
  anchor.leaving = (flags & kLeaving) != 0;
  if (!IsChunkSize(anchor.chunk_bytes) ||
      anchor.superblock_chunks[0] == anchor.superblock_chunks[1] ||
      (flags & ~kLeaving) != 0 || !AllZero(sector.subspan(kFieldsEnd))) {
    return Error{ErrorCode::kCorrupt, "anchor: a field makes no sense"};
  }
  return anchor;
}

}  // namespace

TableId TableIdOf(std::span<const std::byte> sectors) {
  assert(sectors.size() == kTableHeadBytes);
  TableId id{};
  const auto header = sectors.subspan(kSectorBytes);
  if (std::memcmp(header.data(), "EFI PART", 8) == 0) {
    std::memcpy(id.data(), header.data() + 56, id.size());
  } else if (sectors[510] == std::byte{0x55} &&
             sectors[511] == std::byte{0xaa}) {
    std::memcpy(id.data(), sectors.data() + 440, 4);
  }
  return id;
}

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
  out.Bytes(anchor.previous_table_id);
  out.U32(anchor.leaving ? kLeaving : 0);
  assert(out.size() == kFieldsEnd);
  std::array<std::byte, kSectorBytes> sector{};
  std::copy(bytes.begin(), bytes.end(), sector.begin());
  Seal(sector);
  return sector;
}

Result<Anchor> DecodeAnchor(std::span<const std::byte> candidate) {
  assert(candidate.size() == kAnchorBytes);
  std::optional<Anchor> newest;
  Error nothing{ErrorCode::kNotFound, "no anchor here"};
  for (size_t slot = 0; slot < 2; ++slot) {
    auto anchor =
        DecodeSector(candidate.subspan(slot * kAnchorSlotBytes, kSectorBytes));
    if (!anchor) {
      if (anchor.error().code == ErrorCode::kUnsupported) return anchor;
      if (anchor.error().code == ErrorCode::kCorrupt) nothing = anchor.error();
      continue;
    }
    if (!newest || anchor->sequence > newest->sequence) newest = *anchor;
  }
  if (!newest) return nothing;
  return *newest;
}

bool IsWholeAnchor(std::span<const std::byte> candidate,
                   const Uuid& migration_id) {
  const auto a = DecodeSector(candidate.first(kSectorBytes));
  const auto b =
      DecodeSector(candidate.subspan(kAnchorSlotBytes, kSectorBytes));
  return a && b && a->migration_id == migration_id &&
         b->migration_id == migration_id &&
         a->superblock_chunks == b->superblock_chunks &&
         a->target_table_id == b->target_table_id && a->leaving == b->leaving;
}

Task<Result<Anchor>> ReadAnchor(BlockDevice& device, uint64_t offset) {
  AlignedBuffer buffer(kAnchorBytes);
  Status whole = co_await device.Read(offset, buffer.span());
  if (whole) co_return DecodeAnchor(buffer.span());
  std::memset(buffer.data(), 0, buffer.size());
  bool any = false;
  for (size_t slot = 0; slot < 2; ++slot) {
    const size_t at = slot * kAnchorSlotBytes;
    const auto sector = buffer.span().subspan(at, kSectorBytes);
    const Status read = co_await device.Read(offset + at, sector);
    if (!read) std::memset(sector.data(), 0, sector.size());
    any = any || read.has_value();
  }
  if (!any) co_return whole.error();
  Result<Anchor> found = DecodeAnchor(buffer.span());
  // The one that cannot be read may have been an anchor.
  if (!found && found.error().code == ErrorCode::kNotFound) {
    co_return whole.error();
  }
  co_return found;
}

}  // namespace bootstream
