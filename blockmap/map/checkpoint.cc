#include "blockmap/map/checkpoint.h"

#include <array>
#include <cassert>
#include <map>
#include <utility>

#include "blockmap/base/coding.h"

namespace bootstream {
namespace {

constexpr uint64_t kHeaderBytes = 32;
constexpr uint64_t kExtentBytes = 16;
constexpr uint64_t kRelocationBytes = 16;
constexpr uint64_t kPageBytes = 24;
constexpr uint64_t kStateBytes = 24;
constexpr uint64_t kPatchBytes = 14;  // and the data

Error Corrupt(const std::string& why) {
  return Error{ErrorCode::kCorrupt, "checkpoint: " + why};
}

// Pages are written when the next one begins.
class PageWriter {
 public:
  explicit PageWriter(ByteWriter& out) : out_(out) {}
  void Add(ImageChunk chunk, const ChunkState& state) {
    const uint64_t first = chunk.value - chunk.value % BlockMap::kPageChunks;
    if (count_ != 0 && first != first_) Finish();
    first_ = first;
    const uint64_t bit = chunk.value - first;
    mask_[bit / 64] |= uint64_t{1} << (bit % 64);
    states_[count_++] = state;
  }
  void Finish() {
    if (count_ == 0) return;
    out_.U64(first_);
    for (const uint64_t word : mask_) out_.U64(word);
    for (size_t i = 0; i < count_; ++i) {
      out_.U64(states_[i].location.raw());
      out_.U64(states_[i].valid);
      out_.U64(states_[i].dirty);
    }
    mask_ = {};
    count_ = 0;
  }

 private:
  ByteWriter& out_;
  uint64_t first_ = 0;
  std::array<uint64_t, 2> mask_{};
  std::array<ChunkState, BlockMap::kPageChunks> states_;
  size_t count_ = 0;
};

Status GetRegion(ByteReader& in, uint64_t count, const MapLimits& limits,
                 std::vector<DiskExtent>& region) {
  if (count > in.remaining() / kExtentBytes) return Corrupt("cut short");
  region.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t first = in.U64();
    region.push_back({first, in.U64()});
  }
  return CheckRegion(region, limits);
}

Status GetRelocations(ByteReader& in, uint64_t count, const MapLimits& limits,
                      BlockMap& map) {
  if (count > in.remaining() / kRelocationBytes) return Corrupt("cut short");
  std::optional<DiskChunk> last;
  for (uint64_t i = 0; i < count; ++i) {
    RelocationRecord record;
    record.source.value = in.U64();
    record.now = DiskChunk{in.U64()};
    if (last && record.source <= *last) {
      return Corrupt("relocations are out of order");
    }
    last = record.source;
    if (Status s = ApplyRecord(record, limits, map); !s) return s;
  }
  return OkStatus();
}

Status GetPages(ByteReader& in, uint64_t count, const MapLimits& limits,
                BlockMap& map) {
  uint64_t free_from = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t first = in.U64();
    const std::array<uint64_t, 2> mask = {in.U64(), in.U64()};
    if (!in.ok()) return Corrupt("cut short");
    if (first % BlockMap::kPageChunks != 0 || first < free_from ||
        first >= limits.image.chunk_count() || (mask[0] | mask[1]) == 0) {
      return Corrupt("a map page makes no sense");
    }
    free_from = first + BlockMap::kPageChunks;
    for (uint64_t bit = 0; bit < BlockMap::kPageChunks; ++bit) {
      if ((mask[bit / 64] >> (bit % 64) & 1) == 0) continue;
      SetRecord record;
      record.chunk.value = first + bit;
      record.state.location = Location::FromRaw(in.U64());
      record.state.valid = in.U64();
      record.state.dirty = in.U64();
      if (!in.ok()) return Corrupt("cut short");
      if (record.state.location.is_absent()) {
        return Corrupt("an entry for an absent chunk");
      }
      if (Status s = ApplyRecord(record, limits, map); !s) return s;
    }
  }
  return OkStatus();
}

Status GetPatches(ByteReader& in, uint64_t count, const MapLimits& limits,
                  BlockMap& map) {
  if (count > in.remaining() / kPatchBytes) return Corrupt("cut short");
  for (uint64_t i = 0; i < count; ++i) {
    PatchRecord record;
    record.chunk.value = in.U64();
    record.patch.offset = in.U32();
    const auto data = in.Bytes(in.U16());
    if (!in.ok()) return Corrupt("cut short");
    record.patch.data.assign(data.begin(), data.end());
    if (Status s = ApplyRecord(record, limits, map); !s) return s;
  }
  return OkStatus();
}

}  // namespace

uint64_t CheckpointBytes(const BlockMap& map, uint64_t region_extent_count,
                         bool source_kept) {
  const uint64_t relocations = source_kept ? map.relocations().size() : 0;
  return kHeaderBytes + region_extent_count * kExtentBytes +
         relocations * kRelocationBytes + map.page_count() * kPageBytes +
         map.chunk_count() * kStateBytes + map.patch_count() * kPatchBytes +
         map.patch_bytes();
}

std::vector<std::byte> EncodeCheckpoint(const BlockMap& map,
                                        std::span<const DiskExtent> region,
                                        bool source_kept) {
  const std::map<DiskChunk, DiskChunk> none;
  const auto& relocations = source_kept ? map.relocations() : none;
  std::vector<std::byte> bytes;
  bytes.reserve(CheckpointBytes(map, region.size(), source_kept));
  ByteWriter out(bytes);
  out.U64(map.page_count());
  out.U64(relocations.size());
  out.U64(map.patch_count());
  out.U64(region.size());
  for (const DiskExtent& extent : region) {
    out.U64(extent.first);
    out.U64(extent.count);
  }
  for (const auto& [source, now] : relocations) {
    out.U64(source.value);
    out.U64(now.value);
  }
  PageWriter pages(out);
  map.ForEach([&pages](ImageChunk chunk, const ChunkState& state) {
    pages.Add(chunk, state);
  });
  pages.Finish();
  map.ForEachPatch([&out](ImageChunk chunk, const Patch& patch) {
    out.U64(chunk.value);
    out.U32(patch.offset);
    out.U16(static_cast<uint16_t>(patch.data.size()));
    out.Bytes(patch.data);
  });
  assert(bytes.size() == CheckpointBytes(map, region.size(), source_kept));
  return bytes;
}

Result<CheckpointContents> DecodeCheckpoint(std::span<const std::byte> bytes,
                                            const MapLimits& limits) {
  ByteReader in(bytes);
  const uint64_t pages = in.U64();
  const uint64_t relocations = in.U64();
  const uint64_t patches = in.U64();
  const uint64_t extents = in.U64();
  if (!in.ok()) return Corrupt("cut short");
  CheckpointContents contents;
  if (auto s = GetRegion(in, extents, limits, contents.region); !s) {
    return s.error();
  }
  if (auto s = GetRelocations(in, relocations, limits, contents.map); !s) {
    return s.error();
  }
  if (auto s = GetPages(in, pages, limits, contents.map); !s) return s.error();
  if (auto s = GetPatches(in, patches, limits, contents.map); !s) {
    return s.error();
  }
  if (in.remaining() != 0) return Corrupt("something follows its end");
  return contents;
}

}  // namespace bootstream
