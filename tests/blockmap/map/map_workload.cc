#include "tests/blockmap/map/map_workload.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = MapFixture::kChunk;
// Stamps: kind in the high byte.
constexpr uint64_t kSourceStamp = uint64_t{1} << 56;
constexpr uint64_t kImageStamp = uint64_t{2} << 56;
constexpr std::array<uint64_t, 2> kStampedSectors = {0, kChunk - kSectorBytes};

constexpr uint64_t kAnchorOffset = 150 * kChunk;

uint64_t SourceStamp(DiskChunk chunk) { return kSourceStamp | chunk.value; }
uint64_t ImageStamp(ImageChunk chunk, uint64_t version) {
  return kImageStamp | chunk.value << 40 | version;
}

bool WriteStamp(BlockDevice& device, DiskChunk chunk, uint64_t stamp) {
  AlignedBuffer sector(kSectorBytes);
  StoreLe<uint64_t>(sector.span().first<8>(), stamp);
  for (const uint64_t at : kStampedSectors) {
    const uint64_t offset = chunk.value * kChunk + at;
    const auto write = [&]() -> Task<Status> {
      co_return co_await device.Write(offset, sector.span());
    };
    if (!RunInline(write())) return false;
  }
  return true;
}

// 0 if the chunk's stamps do not agree.
uint64_t ReadStamp(BlockDevice& device, DiskChunk chunk) {
  AlignedBuffer sector(kSectorBytes);
  std::optional<uint64_t> stamp;
  for (const uint64_t at : kStampedSectors) {
    const uint64_t offset = chunk.value * kChunk + at;
    const auto read = [&]() -> Task<Status> {
      co_return co_await device.Read(offset, sector.span());
    };
    if (!RunInline(read())) return 0;
    const auto found = LoadLe<uint64_t>(sector.span().first<8>());
    if (stamp && *stamp != found) return 0;
    stamp = found;
  }
  return *stamp;
}

bool IsSource(DiskChunk chunk) {
  for (const DiskExtent& extent : MapFixture::RegionExtents()) {
    if (chunk.value >= extent.first && chunk.value < extent.end()) return false;
  }
  return true;
}

std::string CheckBytes(BlockDevice& device, const MapStore& store,
                       const Truth& truth) {
  std::string wrong;
  store.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (!state.location.on_disk()) return;
    const DiskChunk at = state.location.chunk();
    if (ReadStamp(device, at) != ImageStamp(chunk, truth.versions.at(chunk))) {
      wrong += "image chunk " + std::to_string(chunk.value) + " is not in " +
               std::to_string(at.value) + "; ";
    }
  });
  if (!truth.source_kept) return wrong;
  for (DiskChunk chunk; chunk.value < MapFixture::kDiskChunks; ++chunk.value) {
    if (!IsSource(chunk)) continue;
    const DiskChunk at = store.map().Relocated(chunk).value_or(chunk);
    if (ReadStamp(device, at) != SourceStamp(chunk)) {
      wrong += "source chunk " + std::to_string(chunk.value) + " is lost; ";
    }
  }
  return wrong;
}

// The way over the anchor, if there is one, leads to the same map.
std::string CheckAnchor(BlockDevice& device, const MapStore& store) {
  AlignedBuffer bytes(kAnchorBytes);
  const auto read = [&]() -> Task<Status> {
    co_return co_await device.Read(kAnchorOffset, bytes.span());
  };
  if (!RunInline(read())) return "anchor unreadable";
  const auto anchor = DecodeAnchor(bytes.span());
  if (!anchor) return "";
  const auto sb = RunInline(MapStore::ReadSuperblock(
      device, MapFixture::kChunk, anchor->superblock_chunks));
  if (!sb) return "the anchor leads nowhere: " + sb.error().message;
  const auto other = RunInline(
      MapStore::Open(device, *sb, MapFixture::Facts(), /*read_only=*/true));
  if (!other) return "the anchor leads to " + other.error().message;
  if (Describe((*other)->map()) != Describe(store.map()) ||
      sb->boots_total != store.superblock().boots_total) {
    return "the anchor leads to another map";
  }
  return "";
}

// `map` without its relocations.
std::string WithoutSource(const std::string& map) {
  std::string out;
  for (size_t at = 0; at < map.size();) {
    const size_t end = std::min(map.find('\n', at + 1), map.size());
    const std::string line = map.substr(at, end - at);
    if (!line.starts_with("\nrelocated")) out += line;
    at = end;
  }
  return out;
}

}  // namespace

DiskImage MapWorkload::SourceDisk() {
  CrashDevice device(MapFixture::kDiskBytes);
  for (DiskChunk chunk; chunk.value < MapFixture::kDiskChunks; ++chunk.value) {
    WriteStamp(device, chunk, SourceStamp(chunk));
  }
  return device.image();
}

bool MapWorkload::Create() {
  store_ = MapFixture::Create(device_);
  created_ = store_ != nullptr;
  return created_;
}

bool MapWorkload::Run(uint64_t steps) {
  static constexpr std::array<Step, 21> kSteps = {
      &MapWorkload::Download, &MapWorkload::Download, &MapWorkload::Download,
      &MapWorkload::Rewrite,  &MapWorkload::Rewrite,  &MapWorkload::Rewrite,
      &MapWorkload::Discard,  &MapWorkload::Evict,    &MapWorkload::Evict,
      &MapWorkload::Relocate, &MapWorkload::Relocate, &MapWorkload::Restore,
      &MapWorkload::Patch,    &MapWorkload::Patch,    &MapWorkload::Commit,
      &MapWorkload::Commit,   &MapWorkload::Commit,   &MapWorkload::Checkpoint,
      &MapWorkload::Update,   &MapWorkload::Anchor,   &MapWorkload::Move};
  for (uint64_t i = 0; i < steps; ++i) {
    if (gives_up_ && random_() % 40 == 0 && !GiveUp()) return false;
    if (!(this->*kSteps[random_() % kSteps.size()])()) return false;
  }
  return true;
}

std::string MapWorkload::Reopen() {
  const std::vector<Truth> expected = candidates();
  store_.reset();
  auto store = MapFixture::Open(device_);
  if (!store) return store.error().message;
  store_ = std::move(*store);
  for (const Truth& truth : expected) {
    versions_ = truth.versions;
    boots_ = store_->superblock().boots_total;
    if (Now() != truth) continue;
    committed_ = truth;
    attempted_.clear();
    return CheckBytes(device_, *store_, truth);
  }
  return "reopened neither old nor new:" + Describe(store_->map());
}

bool MapWorkload::HoldsSuperblock(DiskChunk chunk) const {
  const SuperblockChunks& chunks = store_->superblock().superblock_chunks;
  return chunk == chunks[0] || chunk == chunks[1];
}

Result<std::unique_ptr<KeptChanges>> MapWorkload::OpenKept() const {
  return KeptChanges::Open(UniqueFd(::dup(kept_.get())),
                           MapFixture::Options().superblock.migration_id);
}

bool MapWorkload::KeepChanges() {
  if (!Commit()) return false;
  kept_.reset(::memfd_create("kept", MFD_CLOEXEC));
  return RestartProcess().empty();
}

std::string MapWorkload::RestartProcess() {
  // A second death before the first was got over leaves what was to be there.
  if (store_) attempted_.push_back(Now());
  Truth expected = attempted_.back();
  store_.reset();
  auto kept = OpenKept();
  if (!kept) return kept.error().message;
  auto store = MapFixture::Open(device_, false, std::move(*kept));
  if (!store) return store.error().message;
  store_ = std::move(*store);
  versions_ = expected.versions;
  boots_ = store_->superblock().boots_total;
  committed_ = Now();
  attempted_.clear();
  if (!committed_.source_kept) expected.map = WithoutSource(expected.map);
  if (committed_.map != expected.map) {
    return "is:" + committed_.map + "\nand was:" + expected.map;
  }
  return CheckBytes(device_, *store_, committed_);
}

std::vector<Truth> MapWorkload::candidates() const {
  std::vector<Truth> all = {committed_};
  for (const Truth& attempted : attempted_) {
    all.push_back(attempted);
    // The commit, and not the superblock that was to follow.
    all.push_back(attempted);
    all.back().boots = committed_.boots;
  }
  return all;
}

std::string MapWorkload::Check(BlockDevice& device,
                               const std::vector<Truth>& candidates) {
  for (const bool read_only : {true, false}) {
    const auto store = MapFixture::Open(device, read_only);
    if (!store) return store.error().message;
    const std::string map = Describe((*store)->map());
    const uint64_t boots = (*store)->superblock().boots_total;
    std::string wrong = "neither old nor new:" + map;
    for (const Truth& truth : candidates) {
      if (truth.map != map || truth.boots != boots ||
          truth.source_kept == (*store)->superblock().committed) {
        continue;
      }
      wrong = CheckBytes(device, **store, truth) + CheckAnchor(device, **store);
      break;
    }
    if (!wrong.empty()) return wrong;
  }
  return "";
}

Truth MapWorkload::Now() const {
  return {Describe(store_->map()), versions_, boots_,
          !store_->superblock().committed};
}

bool MapWorkload::Put(ImageChunk chunk, DiskChunk at, uint64_t dirty) {
  if (device_.Refuses(at.value * kChunk, kChunk)) {
    store_->Release(at);
    return true;
  }
  const uint64_t version = ++version_;
  if (!WriteStamp(device_, at, ImageStamp(chunk, version))) return false;
  const uint64_t valid = MapFixture::Facts().grid.full_mask(chunk.value);
  store_->SetChunk(chunk, {Location::At(at), valid, dirty & valid});
  versions_[chunk] = version;
  return true;
}

bool MapWorkload::Copy(DiskChunk from, DiskChunk to) {
  return WriteStamp(device_, to, ReadStamp(device_, from));
}

std::optional<ImageChunk> MapWorkload::AnyOnDisk() {
  if (versions_.empty()) return std::nullopt;
  auto it = versions_.begin();
  std::advance(it, random_() % versions_.size());
  return it->first;
}

bool MapWorkload::Download() {
  const ImageChunk chunk{random_() % MapFixture::kImageChunks};
  if (versions_.contains(chunk)) return true;
  const auto at = store_->Allocate({PlacementWish::For::kImageChunk, chunk},
                                   random_() % 2 == 0);
  return !at || Put(chunk, *at, random_() % 2 == 0 ? 0 : random_());
}

bool MapWorkload::Rewrite() {
  const auto chunk = AnyOnDisk();
  if (!chunk) return true;
  const auto at =
      store_->Allocate({PlacementWish::For::kImageChunk, *chunk}, true);
  if (at && random_() % 8 == 0) {
    store_->Release(*at);
    return true;
  }
  return !at || Put(*chunk, *at, random_());
}

bool MapWorkload::Discard() {
  const ImageChunk chunk{random_() % MapFixture::kImageChunks};
  store_->SetChunk(chunk, {Location::Zero(), 0, 0});
  versions_.erase(chunk);
  return true;
}

bool MapWorkload::Evict() {
  const auto chunk = AnyOnDisk();
  if (!chunk) return true;
  store_->SetChunk(*chunk, ChunkState{});
  versions_.erase(*chunk);
  return true;
}

bool MapWorkload::Relocate() {
  if (store_->superblock().committed) return true;
  const DiskChunk source{random_() % 40};  // before the region
  const bool again = store_->map().Relocated(source).has_value();
  const DiskChunk from = store_->map().Relocated(source).value_or(source);
  const auto to =
      store_->Allocate({PlacementWish::For::kSource, ImageChunk{}}, true);
  if (!to) return true;
  if (device_.Refuses(to->value * kChunk, kChunk)) {
    store_->Release(*to);
    return true;
  }
  if (!Copy(from, *to)) return false;
  store_->SetRelocation(source, *to);
  if (again) return true;
  switch (random_() % 3) {
    case 0:
      store_->Release(source);  // before the commit: must wait for it
      return true;
    case 1:
      if (!Commit()) return false;
      store_->Release(source);
      return true;
    default:
      if (!Commit()) return false;
      return Put(AtHomeIn(source), source, random_());
  }
}

bool MapWorkload::Restore() {
  const auto& relocations = store_->map().relocations();
  if (relocations.empty()) return true;
  auto it = relocations.begin();
  std::advance(it, random_() % relocations.size());
  const auto [source, now] = *it;
  if (!store_->AllocateAt(source)) return true;
  if (!Copy(now, source)) return false;
  store_->SetRelocation(source, std::nullopt);
  return true;
}

bool MapWorkload::Patch() {
  const ImageChunk chunk{random_() % MapFixture::kImageChunks};
  const ChunkState state = store_->map().Get(chunk);
  if (!state.location.is_absent()) return true;
  const uint64_t blocks =
      MapFixture::Facts().grid.bytes_of(chunk.value) / kBlockBytes;
  const uint32_t at = static_cast<uint32_t>(random_() % 4000);
  bootstream::Patch patch;
  patch.offset = static_cast<uint32_t>(random_() % blocks * kBlockBytes) + at;
  patch.data.assign(random_() % (kBlockBytes - at) + 1,
                    static_cast<std::byte>(random_()));
  if (patch.data.size() + 14 > store_->patch_room_bytes()) return true;
  store_->AddPatch(chunk, std::move(patch));
  return true;
}

// Between the call and its OK, the state from before or the new one may be on
// the disk.
bool MapWorkload::Change(const std::function<Task<Status>()>& call,
                         uint64_t boots) {
  attempted_ = {Now()};
  attempted_.back().boots = boots;
  if (!RunInline(call())) return false;
  boots_ = boots;
  committed_ = attempted_.back();
  attempted_.clear();
  return true;
}

bool MapWorkload::GiveUp() {
  if (store_->superblock().committed) return true;
  const Truth before = Now();
  Truth after = before;
  after.map = WithoutSource(before.map);
  after.source_kept = false;
  attempted_ = {after, before};
  const Status status = RunInline(store_->GiveUpSource());
  const bool no_room = !status && status.error().code == ErrorCode::kNoSpace;
  if (!status && !no_room) return false;
  if (status) committed_ = after;
  attempted_.clear();
  return true;
}

bool MapWorkload::Commit() {
  return Change([&] { return store_->Commit(); }, boots_);
}

bool MapWorkload::Checkpoint() {
  return Change([&] { return store_->Checkpoint(); }, boots_);
}

bool MapWorkload::Update() {
  const uint64_t boots = boots_ + 1;
  const auto change = [boots](Superblock& sb) {
    sb.boots_total = boots;
    sb.next_epoch = 0;  // not the caller's to change
  };
  return Change([&] { return store_->UpdateSuperblock(change); }, boots);
}

bool MapWorkload::Anchor() {
  if (store_->superblock().anchor_offset != kNone) {
    return Change([&] { return store_->ClearAnchor(); }, boots_);
  }
  const DiskChunk chunk{kAnchorOffset / kChunk};
  if (store_->region().OccupantOf(chunk).use != ChunkUse::kFree) return true;
  return Change([&] { return store_->WriteAnchor(kAnchorOffset); }, boots_);
}

bool MapWorkload::Move() {
  if (!Commit()) return false;
  const Superblock& sb = store_->superblock();
  const std::array<DiskChunk, 5> all = {
      sb.superblock_chunks[0], sb.superblock_chunks[1], sb.manifest_chunk,
      sb.checkpoint_chunk, sb.journal_chunk};
  const DiskChunk chunk = all[random_() % all.size()];
  // There may be no room for it.
  if (store_->region().available_count(true) < 4) return true;
  if (!Change([&] { return store_->MoveMetadata(chunk); }, boots_)) {
    return false;
  }
  store_->Release(chunk);
  return true;
}

}  // namespace bootstream
