#include "blockmap/map/map_store.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "blockmap/map/map_store_impl.h"

namespace bootstream {
namespace {

constexpr uint64_t kRelocationsBeyondImage = 64;  // the anchor's, a table's
constexpr uint64_t kPatchRecordBytes = 14;

}  // namespace

MetadataBudget BudgetFor(const Grid& image, uint64_t region_extent_count,
                         uint32_t journal_chunks) {
  // Every image chunk has an entry and every home was relocated.
  const uint64_t chunks = image.chunk_count();
  const uint64_t pages = chunks / BlockMap::kPageChunks + 1;
  const uint64_t bytes = 32 + 16 * region_extent_count + 24 * pages +
                         24 * chunks + 16 * (chunks + kRelocationsBeyondImage);
  MetadataBudget budget;
  budget.checkpoint_chunks =
      ChainChunksFor(bytes, image.chunk_bytes) + kPatchRoomChunks;
  budget.journal_chunks =
      std::max<uint64_t>({1, journal_chunks, budget.checkpoint_chunks / 4});
  return budget;
}

uint64_t MapStore::MetadataChunks(const Grid& image, uint64_t manifest_bytes,
                                  uint64_t region_extent_count,
                                  uint32_t journal_chunks) {
  return SuperblockChunks().size() +
         ChainChunksFor(manifest_bytes, image.chunk_bytes) +
         BudgetFor(image, region_extent_count, journal_chunks).total();
}

MapStore::Impl::Impl(BlockDevice& device, Superblock superblock,
                     ImageFacts image, BlockMap map,
                     std::vector<DiskExtent> base, bool read_only)
    : device(device),
      superblock(std::move(superblock)),
      image(std::move(image)),
      map(std::move(map)),
      region(std::move(base), this->image.grid, this->image.is_zero,
             this->image.is_kept),
      read_only(read_only),
      next_epoch(this->superblock.next_epoch),
      budget(BudgetFor(this->image.grid, region.base().size(),
                       this->superblock.journal_chunks)) {
  const Grid disk = limits().disk;
  if (disk.size_bytes % disk.chunk_bytes != 0) {
    region.set_short_chunk(DiskChunk{disk.chunk_count() - 1});
  }
  region.set_spare_count(this->superblock.spare_chunks);
  UpdateReserve();
}

std::unique_ptr<MapStore> MapStore::Impl::Wrap(std::unique_ptr<Impl> impl) {
  return std::unique_ptr<MapStore>(new MapStore(std::move(impl)));
}

MapLimits MapStore::Impl::limits() const {
  return {image.grid, Grid{superblock.chunk_bytes, superblock.disk.size_bytes}};
}

ChainName MapStore::Impl::NewChain(ChainKind kind) {
  return {kind, superblock.migration_id, next_epoch++};
}

Status MapStore::Impl::CheckWritable() const {
  if (read_only) {
    return Error{ErrorCode::kRefused, "map: opened for reading only"};
  }
  if (failure) return *failure;
  return OkStatus();
}

Error MapStore::Impl::Fail(const Error& error) {
  if (!failure) {
    failure = Annotate(
        error,
        "map: metadata could not be written, no change is kept from now");
  }
  return *failure;
}

std::optional<DiskChunk> MapStore::Impl::Allocate(const PlacementWish& wish,
                                                  bool use_spare) {
  if (read_only) return std::nullopt;
  const auto chunk = region.Allocate(wish, use_spare);
  if (chunk) allocated.insert(*chunk);
  return chunk;
}

bool MapStore::Impl::AllocateAt(DiskChunk chunk) {
  if (read_only || !region.AllocateAt(chunk)) return false;
  allocated.insert(chunk);
  return true;
}

void MapStore::Impl::Release(DiskChunk chunk) {
  [[maybe_unused]] const size_t held = allocated.erase(chunk);
  assert(held == 1);
  if (joined.contains(chunk)) {
    // Its old content is nowhere else until the relocation is durable.
    freed.push_back(chunk);
  } else {
    region.Free(chunk);
  }
}

void MapStore::Impl::Occupy(DiskChunk chunk, Occupant occupant) {
  [[maybe_unused]] const size_t held = allocated.erase(chunk);
  assert(held == 1);
  region.SetOccupant(chunk, occupant);
}

void MapStore::Impl::Vacate(DiskChunk chunk) {
  region.SetOccupant(chunk, {ChunkUse::kReserved, 0});
  freed.push_back(chunk);
}

void MapStore::Impl::Note(const Record& record) {
  pending.Add(record);
  if (!kept) return;
  if (auto s = kept->Add(record); !s) Fail(s.error());
}

void MapStore::Impl::SetChunk(ImageChunk chunk, const ChunkState& state) {
  const SetRecord record{chunk, state};
  assert(!read_only);
  assert(CheckRecord(record, limits()));
  const ChunkState before = map.Get(chunk);
  if (before == state) return;
  if (before.location != state.location) {
    if (state.location.on_disk()) {
      Occupy(state.location.chunk(), {ChunkUse::kImage, chunk.value});
    }
    if (before.location.on_disk()) Vacate(before.location.chunk());
  }
  map.Set(chunk, state);
  Note(record);
}

void MapStore::Impl::SetRelocation(DiskChunk source,
                                   std::optional<DiskChunk> now) {
  const RelocationRecord record{source, now};
  assert(!read_only);
  assert(CheckRecord(record, map, limits()));
  const std::optional<DiskChunk> before = map.Relocated(source);
  if (now) Occupy(*now, {ChunkUse::kSource, source.value});
  if (before) Vacate(*before);
  if (now && !before) {
    region.Join(source);
    allocated.insert(source);
    joined.emplace(source, batch_number);
  }
  if (!now) {
    [[maybe_unused]] const size_t held = allocated.erase(source);
    assert(held == 1);
    region.Leave(source);
    joined.erase(source);
  }
  map.SetRelocation(source, now);
  Note(record);
}

void MapStore::Impl::AddPatch(ImageChunk chunk, Patch patch) {
  assert(!read_only);
  std::span<const std::byte> left = patch.data;
  uint32_t offset = patch.offset;
  while (!left.empty()) {
    const auto part = left.first(std::min<size_t>(left.size(), kPatchBytesMax));
    PatchRecord record{chunk, {offset, {part.begin(), part.end()}}};
    assert(CheckRecord(record, map, limits()));
    Note(record);
    map.AddPatch(chunk, std::move(record.patch));
    left = left.subspan(part.size());
    offset += static_cast<uint32_t>(part.size());
  }
}

std::vector<DiskChunk> MapStore::Impl::TakeMetadata(uint64_t count) {
  std::vector<DiskChunk> chunks;
  for (uint64_t i = 0; i < count; ++i) {
    const auto chunk =
        region.Allocate({PlacementWish::For::kMetadata, ImageChunk{}}, true);
    assert(chunk);
    region.SetOccupant(*chunk, {ChunkUse::kMetadata, 0});
    chunks.push_back(*chunk);
  }
  return chunks;
}

void MapStore::Impl::FreeMetadata(const std::vector<DiskChunk>& chunks) {
  for (const DiskChunk chunk : chunks) {
    if (claimed.erase(chunk) != 0) {
      region.SetOccupant(chunk, {ChunkUse::kReserved, 0});
      allocated.insert(chunk);
    } else {
      region.Free(chunk);
    }
  }
}

void MapStore::Impl::UpdateReserve() {
  uint64_t live = checkpoint_chunks.size() + chunks_being_written;
  for (const JournalPlace& journal : journals) live += journal.chunks.size();
  region.set_reserve_count(budget.total() - std::min(live, budget.total()));
}

MapStore::MapStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MapStore::~MapStore() = default;

const Superblock& MapStore::superblock() const { return impl_->superblock; }
const BlockMap& MapStore::map() const { return impl_->map; }
const Region& MapStore::region() const { return impl_->region; }
Grid MapStore::disk_grid() const { return impl_->limits().disk; }

std::optional<DiskChunk> MapStore::Allocate(const PlacementWish& wish,
                                            bool use_spare) {
  return impl_->Allocate(wish, use_spare);
}
bool MapStore::AllocateAt(DiskChunk chunk) { return impl_->AllocateAt(chunk); }
void MapStore::Release(DiskChunk chunk) { impl_->Release(chunk); }
void MapStore::SetChunk(ImageChunk chunk, const ChunkState& state) {
  impl_->SetChunk(chunk, state);
}
void MapStore::SetRelocation(DiskChunk source, std::optional<DiskChunk> now) {
  impl_->SetRelocation(source, now);
}
void MapStore::AddPatch(ImageChunk chunk, Patch patch) {
  impl_->AddPatch(chunk, std::move(patch));
}

uint64_t MapStore::patch_room_bytes() const {
  const uint64_t room =
      kPatchRoomChunks * ChainPayloadBytes(impl_->chunk_bytes());
  const uint64_t used =
      impl_->map.patch_bytes() + impl_->map.patch_count() * kPatchRecordBytes;
  return room - std::min(room, used);
}

Task<Status> MapStore::Commit() { return impl_->Commit(); }
bool MapStore::has_changes() const {
  return impl_->committing || !impl_->pending.empty();
}
Task<Status> MapStore::UpdateSuperblock(
    const std::function<void(Superblock&)>& change) {
  return impl_->UpdateSuperblock(change);
}
Task<Status> MapStore::GiveUpSource() { return impl_->GiveUpSource(); }
void MapStore::NoteZeroed(DiskChunk chunk) { impl_->region.NoteZeroed(chunk); }
uint64_t MapStore::settled_count() const { return impl_->SettledCount(); }
Task<Status> MapStore::Settle() { return impl_->Settle(); }
Task<Status> MapStore::Unsettle(DiskChunk home) {
  return impl_->Unsettle(home);
}
Task<Status> MapStore::Leave() { return impl_->Leave(); }
Task<Status> MapStore::Checkpoint() { return impl_->Checkpoint(); }
Task<Status> MapStore::WriteAnchor(uint64_t offset) {
  return impl_->WriteAnchor(offset);
}
Task<Status> MapStore::MoveMetadata(DiskChunk chunk) {
  return impl_->MoveMetadata(chunk);
}
Task<Status> MapStore::ChangeTargetTable(const TableId& id) {
  return impl_->ChangeTargetTable(id);
}
Task<Status> MapStore::ClearAnchor() { return impl_->ClearAnchor(); }

}  // namespace bootstream
