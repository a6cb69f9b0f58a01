#include "blockmap/map/map_leave.h"

#include <algorithm>
#include <string_view>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"
#include "blockmap/map/sealed.h"

namespace bootstream {
namespace {

constexpr std::string_view kMagic = "BSLEFT01";
constexpr uint64_t kZeroedAtOnce = uint64_t{1} << 20;

Task<Status> MakeZero(BlockDevice& disk, ByteExtent range,
                      const AlignedBuffer& zeroes) {
  while (range.size > 0) {
    const uint64_t size = std::min<uint64_t>(range.size, zeroes.size());
    const Status s =
        co_await disk.WriteZeroes(range.offset, zeroes.span().first(size));
    if (!s) co_return s;
    range.offset += size;
    range.size -= size;
  }
  co_return OkStatus();
}

bool MakesSense(const ByteExtent& range, uint64_t disk_bytes) {
  return range.offset % kSectorBytes == 0 && range.size % kSectorBytes == 0 &&
         range.offset <= disk_bytes && range.size <= disk_bytes - range.offset;
}

// What of `chunk` is on the disk; empty: nothing.
ByteExtent PlaceOf(DiskChunk chunk, uint32_t chunk_bytes, uint64_t disk_bytes) {
  if (chunk.value >= disk_bytes / chunk_bytes + 1) return {};
  const uint64_t begin = chunk.value * chunk_bytes;
  return {begin, std::min<uint64_t>(chunk_bytes, disk_bytes - begin)};
}

// From either of the superblock chunks.  None has them: they were zero before
// the list was touched.  Where one cannot be read, that is not known.
Task<Result<std::vector<ByteExtent>>> ReadLeftovers(BlockDevice& disk,
                                                    const Anchor& anchor) {
  AlignedBuffer buffer(kLeftoversBytes);
  Status unreadable;
  for (const DiskChunk chunk : anchor.superblock_chunks) {
    const ByteExtent place =
        PlaceOf(chunk, anchor.chunk_bytes, disk.size_bytes());
    if (place.size < kLeftoversOffset + kLeftoversBytes) continue;
    const Status read =
        co_await disk.Read(place.offset + kLeftoversOffset, buffer.span());
    if (!read) {
      unreadable = read;
      continue;
    }
    auto ranges = DecodeLeftovers(buffer.span(), anchor.migration_id);
    if (ranges) co_return ranges;
  }
  if (!unreadable) co_return unreadable.error();
  co_return std::vector<ByteExtent>();
}

// A power cut may have left one sector of two that says leaving.  The other one
// leads to a map, and must not be what is left when they are zeroed.
Task<Status> SayItTwice(BlockDevice& disk, uint64_t offset, Anchor anchor) {
  AlignedBuffer both(kAnchorBytes);
  const Status read = co_await disk.Read(offset, both.span());
  if (read && IsWholeAnchor(both.span(), anchor.migration_id)) {
    co_return OkStatus();
  }
  ++anchor.sequence;
  const auto sector = EncodeAnchor(anchor);
  AlignedBuffer buffer(kSectorBytes);
  std::copy(sector.begin(), sector.end(), buffer.data());
  const uint64_t at = offset + anchor.sequence % 2 * kAnchorSlotBytes;
  Status s = co_await disk.Write(at, buffer.span());
  if (s) s = co_await disk.Flush();
  co_return s;
}

}  // namespace

Result<std::vector<std::byte>> EncodeLeftovers(
    const Uuid& migration_id, std::span<const ByteExtent> ranges) {
  if (ranges.size() > kLeftoversMax) {
    return Error{ErrorCode::kNoSpace,
                 "map: the metadata lies in too many places to leave"};
  }
  std::vector<std::byte> bytes;
  ByteWriter out(bytes);
  PutMagic(out, kMagic);
  out.U32(0);
  out.U32(static_cast<uint32_t>(ranges.size()));
  out.Bytes(migration_id);
  for (const ByteExtent& range : ranges) {
    out.U64(range.offset);
    out.U64(range.size);
  }
  bytes.resize(kLeftoversBytes);
  Seal(bytes);
  return bytes;
}

Result<std::vector<ByteExtent>> DecodeLeftovers(
    std::span<const std::byte> bytes, const Uuid& migration_id) {
  if (auto s = CheckSeal(bytes, kMagic, "list of leftovers"); !s) {
    return s.error();
  }
  ByteReader in(bytes);
  in.Skip(kMagic.size() + sizeof(uint32_t));
  const uint32_t count = in.U32();
  if (in.Array<16>() != migration_id || count > kLeftoversMax) {
    return Error{ErrorCode::kCorrupt, "list of leftovers: of something else"};
  }
  std::vector<ByteExtent> ranges(count);
  for (ByteExtent& range : ranges) {
    range.offset = in.U64();
    range.size = in.U64();
  }
  return ranges;
}

Task<Status> FinishLeaving(BlockDevice& disk, uint64_t offset,
                           const Anchor& anchor) {
  const auto ranges = co_await ReadLeftovers(disk, anchor);
  if (!ranges) co_return ranges.error();
  Status s = co_await SayItTwice(disk, offset, anchor);
  if (!s) co_return s;
  const AlignedBuffer zeroes(kZeroedAtOnce);
  for (const ByteExtent& range : *ranges) {
    if (!MakesSense(range, disk.size_bytes())) {
      co_return Error{ErrorCode::kCorrupt,
                      "map: what is left of it lies outside the disk"};
    }
    s = co_await MakeZero(disk, range, zeroes);
    if (!s) co_return s;
  }
  s = co_await disk.Flush();
  if (!s) co_return s;
  for (const DiskChunk chunk : anchor.superblock_chunks) {
    const ByteExtent place =
        PlaceOf(chunk, anchor.chunk_bytes, disk.size_bytes());
    s = co_await MakeZero(disk, place, zeroes);
    if (!s) co_return s;
  }
  s = co_await disk.Flush();
  const ByteExtent last{offset, kAnchorBytes};
  if (s) s = co_await MakeZero(disk, last, zeroes);
  if (s) s = co_await disk.Flush();
  co_return s;
}

}  // namespace bootstream
