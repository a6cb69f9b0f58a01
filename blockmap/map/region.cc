#include "blockmap/map/region.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace bootstream {
namespace {

constexpr uint32_t kNumberBits = 56;
constexpr uint64_t kNumberMask = (uint64_t{1} << kNumberBits) - 1;

uint64_t Pack(const Occupant& occupant) {
  if (occupant.use == ChunkUse::kFree) return 0;
  assert(occupant.number <= kNumberMask);
  return static_cast<uint64_t>(occupant.use) << kNumberBits | occupant.number;
}

Occupant Unpack(uint64_t packed) {
  if (packed == 0) return {ChunkUse::kFree, 0};
  return {static_cast<ChunkUse>(packed >> kNumberBits), packed & kNumberMask};
}

}  // namespace

Region::Region(std::vector<DiskExtent> base, Grid image,
               std::function<bool(ImageChunk)> is_zero,
               std::function<bool(ImageChunk)> is_kept)
    : base_(std::move(base)),
      image_(image),
      is_zero_(std::move(is_zero)),
      is_kept_(std::move(is_kept)) {
  assert(is_zero_ && is_kept_);
  for (const DiskExtent& extent : base_) {
    base_count_ += extent.count;
    AddFree(extent);
  }
}

void Region::AddFree(DiskExtent extent) {
  DiskExtent run{extent.first, 0};
  while (run.end() < extent.end()) {
    const Class kind = ClassOf(DiskChunk{run.first});
    do {
      ++run.count;
    } while (run.end() < extent.end() && ClassOf(DiskChunk{run.end()}) == kind);
    free_[kind].Add(run);
    run = {run.end(), 0};
  }
}

void Region::TakeWholeDisk(uint64_t chunk_count) {
  std::vector<DiskExtent> ours = base_;
  for (const DiskChunk chunk : joined_) ours.push_back({chunk.value, 1});
  std::sort(ours.begin(), ours.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  uint64_t at = 0;
  for (const DiskExtent& extent : ours) {
    if (at < extent.first) AddFree({at, extent.first - at});
    at = extent.end();
  }
  if (at < chunk_count) AddFree({at, chunk_count - at});
  joined_.clear();
  base_ = {{0, chunk_count}};
  base_count_ = chunk_count;
}

Region::Class Region::ClassOf(DiskChunk chunk) const {
  if (short_chunk_ == chunk) return kOwnHomeOnly;
  if (chunk.value >= image_.chunk_count()) return kBeyondImage;
  if (is_kept_(AtHomeIn(chunk))) return kKeptHome;
  return is_zero_(AtHomeIn(chunk)) ? kZeroHome : kOtherHome;
}

uint64_t Region::chunk_count() const { return base_count_ + joined_.size(); }

uint64_t Region::free_count() const {
  uint64_t count = 0;
  for (const ExtentSet& set : free_) count += set.count();
  return count;
}

uint64_t Region::plain_free_count() const {
  return free_[kBeyondImage].count() + free_[kZeroHome].count() +
         free_[kOtherHome].count();
}

uint64_t Region::plain_available_count(bool use_spare) const {
  const uint64_t plain = plain_free_count();
  const uint64_t held = reserve_count_ + (use_spare ? 0 : spare_count_);
  return plain > held ? plain - held : 0;
}

uint64_t Region::available_count(bool use_spare) const {
  return free_[kKeptHome].count() + plain_available_count(use_spare);
}

bool Region::IsOurs(DiskChunk chunk) const {
  const auto after = std::upper_bound(
      base_.begin(), base_.end(), chunk.value,
      [](uint64_t value, const DiskExtent& e) { return value < e.first; });
  if (after != base_.begin() && chunk.value < std::prev(after)->end()) {
    return true;
  }
  return joined_.contains(chunk);
}

Region::Fit Region::FitForMetadata(DiskChunk chunk) const {
  const Class kind = ClassOf(chunk);
  if (kind > kOtherHome) return Fit::kNever;
  return kind == kOtherHome ? Fit::kPoor : Fit::kGood;
}

Occupant Region::OccupantOf(DiskChunk chunk) const {
  if (!IsOurs(chunk)) return Occupant{};
  return Unpack(PackedAt(chunk));
}

bool Region::IsFree(DiskChunk chunk) const {
  return OccupantOf(chunk).use == ChunkUse::kFree;
}

bool Region::MayTakePlain(bool for_metadata, bool use_spare) const {
  if (for_metadata) return true;
  return plain_free_count() > reserve_count_ + (use_spare ? 0 : spare_count_);
}

std::optional<DiskChunk> Region::Find(const PlacementWish& wish,
                                      bool use_spare) const {
  using For = PlacementWish::For;
  const bool for_image =
      wish.purpose == For::kImageChunk || wish.purpose == For::kStagedChunk;
  const bool may_take_plain =
      MayTakePlain(wish.purpose == For::kMetadata, use_spare);
  if (for_image) {
    const DiskChunk home = HomeOf(wish.chunk);
    if (IsFree(home) && (ClassOf(home) > kOtherHome || may_take_plain)) {
      return home;
    }
  }
  if (may_take_plain) {
    for (const Class kind : {kBeyondImage, kZeroHome}) {
      if (!free_[kind].empty()) return DiskChunk{free_[kind].lowest()};
    }
    // The highest: a download in ascending order wants it last.
    if (!free_[kOtherHome].empty()) {
      return DiskChunk{free_[kOtherHome].highest()};
    }
  }
  if (wish.purpose == For::kImageChunk && !free_[kKeptHome].empty()) {
    return DiskChunk{free_[kKeptHome].highest()};
  }
  return std::nullopt;
}

std::optional<DiskChunk> Region::Allocate(const PlacementWish& wish,
                                          bool use_spare) {
  const auto found = Find(wish, use_spare);
  if (found) Reserve(*found);
  return found;
}

bool Region::AllocateAt(DiskChunk chunk) {
  if (!IsFree(chunk)) return false;
  if (ClassOf(chunk) <= kOtherHome && !MayTakePlain(false, true)) return false;
  Reserve(chunk);
  return true;
}

void Region::SetOccupant(DiskChunk chunk, Occupant occupant) {
  assert(IsOurs(chunk));
  assert(occupant.use != ChunkUse::kForeign);
  const bool was_free = PackedAt(chunk) == 0;
  const uint64_t packed = Pack(occupant);
  const bool is_free = packed == 0;
  if (was_free && !is_free) {
    free_[ClassOf(chunk)].Remove(chunk.value);
    ForgetZeroed(chunk);
  }
  if (!was_free && is_free) free_[ClassOf(chunk)].Add({chunk.value, 1});
  SetPacked(chunk, packed);
}

void Region::Free(DiskChunk chunk) { SetOccupant(chunk, {ChunkUse::kFree}); }

void Region::NoteZeroed(DiskChunk chunk) {
  assert(IsFree(chunk) && IsOurs(chunk));
  if (!zeroed_.Contains(chunk.value)) zeroed_.Add({chunk.value, 1});
}

void Region::ForgetZeroed(DiskChunk chunk) {
  if (zeroed_.Contains(chunk.value)) zeroed_.Remove(chunk.value);
}

void Region::Join(DiskChunk chunk) {
  assert(!IsOurs(chunk));
  joined_.insert(chunk);
  SetPacked(chunk, Pack({ChunkUse::kReserved}));
}

void Region::Leave(DiskChunk chunk) {
  assert(joined_.contains(chunk));
  if (PackedAt(chunk) == 0) free_[ClassOf(chunk)].Remove(chunk.value);
  SetPacked(chunk, 0);
  joined_.erase(chunk);
}

uint64_t Region::PackedAt(DiskChunk chunk) const {
  const auto page = pages_.find(chunk.value / kPageChunks);
  if (page == pages_.end()) return 0;
  return page->second->packed[chunk.value % kPageChunks];
}

void Region::SetPacked(DiskChunk chunk, uint64_t packed) {
  const uint64_t number = chunk.value / kPageChunks;
  auto page = pages_.find(number);
  if (page == pages_.end()) {
    if (packed == 0) return;
    page = pages_.emplace(number, std::make_unique<Page>()).first;
  }
  uint64_t& slot = page->second->packed[chunk.value % kPageChunks];
  page->second->used += (packed != 0 ? 1 : 0) - (slot != 0 ? 1 : 0);
  slot = packed;
  if (page->second->used == 0) pages_.erase(page);
}

}  // namespace bootstream
