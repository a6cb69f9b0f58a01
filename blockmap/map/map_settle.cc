#include <algorithm>
#include <string>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/map_leave.h"
#include "blockmap/map/map_store_impl.h"

// Settled: the raw disk is the image, but for the places of the metadata, where
// the image is zero.  That stays so: before metadata takes another place, the
// superblock says that it is so no more.

namespace bootstream {
namespace {

// Where a disk whose table is a GPT has the copy of it.
constexpr uint64_t kBackupTableBytes = 33 * kSectorBytes;

void Join(std::vector<ByteExtent>& ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  std::vector<ByteExtent> joined;
  for (const ByteExtent& range : ranges) {
    if (!joined.empty() && range.offset <= joined.back().end()) {
      joined.back().size =
          std::max(joined.back().end(), range.end()) - joined.back().offset;
    } else {
      joined.push_back(range);
    }
  }
  ranges = std::move(joined);
}

}  // namespace

Task<Status> MapStore::Impl::Settle() {
  if (Status s = co_await Commit(); !s) co_return s;
  const auto commit_guard = co_await commit_mutex.Lock();
  if (Status s = co_await WaitForCheckpoint(); !s) co_return s;
  const auto guard = co_await superblock_mutex.Lock();
  if (Status s = CheckWritable(); !s) co_return s;
  if (superblock.phase == Phase::kSettled) co_return OkStatus();
  if (Status s = CheckSettled(); !s) co_return s;
  if (Status s = co_await Flush(); !s) co_return Fail(s.error());
  Superblock next = superblock;
  next.phase = Phase::kSettled;
  co_return co_await WriteSuperblock(std::move(next));
}

// By counting: each image chunk is at home, or zero and its home known to be,
// or metadata's.  What comes home meanwhile does not change that.
Status MapStore::Impl::CheckSettled() const {
  const auto not_yet = [](const std::string& why) {
    return Error{ErrorCode::kUnavailable, "map: not settled: " + why};
  };
  if (superblock.phase != Phase::kCommitted) return not_yet("not committed");
  if (!IsAllHome()) return not_yet("something is not at home, or in parts");
  const uint64_t settled = SettledCount();
  const uint64_t count = image.grid.chunk_count();
  if (settled == count) return OkStatus();
  return not_yet(std::to_string(settled) + " of " + std::to_string(count) +
                 " chunks");
}

bool MapStore::Impl::IsAllHome() const {
  bool all = !map.has_patches();
  map.ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (!state.location.on_disk()) return;
    all = all && state.location == Location::At(HomeOf(chunk)) &&
          state.valid == image.grid.full_mask(chunk.value);
  });
  return all;
}

uint64_t MapStore::Impl::SettledCount() const {
  uint64_t settled = region.zeroed_count();
  map.ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (state.location == Location::At(HomeOf(chunk)) &&
        state.valid == image.grid.full_mask(chunk.value)) {
      ++settled;
    }
  });
  for (const DiskChunk chunk : LiveMetadata()) {
    if (chunk.value < image.grid.chunk_count()) ++settled;
  }
  return settled;
}

Task<Status> MapStore::Impl::Unsettle(DiskChunk home) {
  region.ForgetZeroed(home);
  co_return co_await UpdateSuperblock([](Superblock& block) {
    if (block.phase == Phase::kSettled) block.phase = Phase::kCommitted;
  });
}

// REQUIRES: `superblock_mutex` is held, or nothing else runs.
Task<Status> MapStore::Impl::GoBackToCommitted() {
  if (superblock.phase != Phase::kSettled) co_return OkStatus();
  Superblock next = superblock;
  next.phase = Phase::kCommitted;
  co_return co_await WriteSuperblock(std::move(next));
}

std::vector<DiskChunk> MapStore::Impl::LiveMetadata() const {
  std::vector<DiskChunk> chunks(superblock.superblock_chunks.begin(),
                                superblock.superblock_chunks.end());
  const auto add = [&chunks](const std::vector<DiskChunk>& more) {
    chunks.insert(chunks.end(), more.begin(), more.end());
  };
  add(checkpoint_chunks);
  add(manifest_chunks);
  for (const JournalPlace& journal : journals) add(journal.chunks);
  if (superblock.anchor_offset != kNone) {
    chunks.push_back(DiskChunk{superblock.anchor_offset / chunk_bytes()});
  }
  if (superblock.old_superblock_chunk.value != kNone) {
    chunks.push_back(superblock.old_superblock_chunk);
  }
  return chunks;
}

std::vector<ByteExtent> MapStore::Impl::Leftovers() const {
  const Grid disk = limits().disk;
  const uint64_t anchor = superblock.anchor_offset;
  std::vector<ByteExtent> ranges;
  for (const DiskChunk chunk : LiveMetadata()) {
    const uint64_t begin = disk.offset_of(chunk.value);
    const uint64_t end = begin + disk.bytes_of(chunk.value);
    const auto& pair = superblock.superblock_chunks;
    if (std::find(pair.begin(), pair.end(), chunk) != pair.end()) continue;
    if (anchor < begin || anchor >= end) {
      ranges.push_back({begin, end - begin});
      continue;
    }
    // The anchor comes last of all.
    ranges.push_back({begin, anchor - begin});
    ranges.push_back({anchor + kAnchorBytes, end - anchor - kAnchorBytes});
  }
  const uint64_t table = disk.size_bytes - kBackupTableBytes;
  const bool gpt = superblock.disk.table_type == TableType::kGpt;
  if (gpt && superblock.image_bytes <= table) {
    ranges.push_back({table, kBackupTableBytes});
  }
  std::erase_if(ranges,
                [](const ByteExtent& range) { return range.size == 0; });
  Join(ranges);
  return ranges;
}

Task<Status> MapStore::Impl::Leave() {
  if (Status s = co_await Commit(); !s) co_return s;
  const auto commit_guard = co_await commit_mutex.Lock();
  if (Status s = co_await WaitForCheckpoint(); !s) co_return s;
  const auto guard = co_await superblock_mutex.Lock();
  if (Status s = CheckWritable(); !s) co_return s;
  if (superblock.phase != Phase::kSettled || !pending.empty() || !IsAllHome() ||
      superblock.anchor_offset == kNone) {
    co_return Error{ErrorCode::kUnavailable, "map: not settled any more"};
  }
  const auto list = EncodeLeftovers(superblock.migration_id, Leftovers());
  if (!list) co_return list.error();
  AlignedBuffer buffer(list->size());
  std::copy(list->begin(), list->end(), buffer.data());
  for (const DiskChunk chunk : superblock.superblock_chunks) {
    const Status s = co_await device.Write(
        chunk.value * chunk_bytes() + kLeftoversOffset, buffer.span());
    if (!s) co_return s;
  }
  if (Status s = co_await Flush(); !s) co_return Fail(s.error());
  leaving = true;
  const uint64_t offset = superblock.anchor_offset;
  Status status = co_await PutAnchor(offset);
  if (!status) co_return Fail(status.error());
  const auto anchor = co_await ReadAnchor(device, offset);
  if (!anchor) co_return Fail(anchor.error());
  status = co_await FinishLeaving(device, offset, *anchor);
  if (!status) co_return Fail(status.error());
  failure = Error{ErrorCode::kRefused, "map: it has left the disk"};
  left = true;
  co_return OkStatus();
}

}  // namespace bootstream
