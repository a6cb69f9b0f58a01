#include "blockmap/map/block_map.h"

#include <cassert>
#include <cstring>
#include <utility>

namespace bootstream {
namespace {

uint64_t BlockBit(const Patch& patch) {
  return uint64_t{1} << (patch.offset / kBlockBytes);
}

}  // namespace

ChunkState BlockMap::Get(ImageChunk chunk) const {
  const auto page = pages_.find(chunk.value / kPageChunks);
  if (page == pages_.end()) return ChunkState{};
  return page->second->states[chunk.value % kPageChunks];
}

void BlockMap::Set(ImageChunk chunk, const ChunkState& state) {
  DropPatches(chunk, state);
  const uint64_t number = chunk.value / kPageChunks;
  auto page = pages_.find(number);
  if (page == pages_.end()) {
    if (state.location.is_absent()) return;
    page = pages_.emplace(number, std::make_unique<Page>()).first;
  }
  ChunkState& slot = page->second->states[chunk.value % kPageChunks];
  const int before = slot.location.is_absent() ? 0 : 1;
  const int after = state.location.is_absent() ? 0 : 1;
  slot = state;
  page->second->used += after - before;
  chunk_count_ += after - before;
  if (page->second->used == 0) pages_.erase(page);
}

void BlockMap::DropPatches(ImageChunk chunk, const ChunkState& state) {
  const auto found = patches_.find(chunk);
  if (found == patches_.end()) return;
  const bool all = state.location.is_zero();
  std::erase_if(found->second, [&](const Patch& patch) {
    if (!all && (state.valid & BlockBit(patch)) == 0) return false;
    patch_bytes_ -= patch.data.size();
    --patch_count_;
    return true;
  });
  if (found->second.empty()) patches_.erase(found);
}

void BlockMap::ForEach(
    const std::function<void(ImageChunk, const ChunkState&)>& visit) const {
  for (const auto& [number, page] : pages_) {
    for (uint64_t i = 0; i < kPageChunks; ++i) {
      const ChunkState& state = page->states[i];
      if (state.location.is_absent()) continue;
      visit(ImageChunk{number * kPageChunks + i}, state);
    }
  }
}

std::optional<DiskChunk> BlockMap::Relocated(DiskChunk source) const {
  const auto found = relocations_.find(source);
  if (found == relocations_.end()) return std::nullopt;
  return found->second;
}

void BlockMap::SetRelocation(DiskChunk source, std::optional<DiskChunk> now) {
  ++relocation_changes_;
  if (now) {
    relocations_[source] = *now;
  } else {
    relocations_.erase(source);
  }
}

void BlockMap::AddPatch(ImageChunk chunk, Patch patch) {
  assert(!patch.data.empty());
  assert(patch.offset / kBlockBytes ==
         (patch.offset + patch.data.size() - 1) / kBlockBytes);
  patch_bytes_ += patch.data.size();
  ++patch_count_;
  patches_[chunk].push_back(std::move(patch));
}

std::span<const Patch> BlockMap::PatchesOf(ImageChunk chunk) const {
  const auto found = patches_.find(chunk);
  if (found == patches_.end()) return {};
  return found->second;
}

void BlockMap::ForEachPatch(
    const std::function<void(ImageChunk, const Patch&)>& visit) const {
  for (const auto& [chunk, patches] : patches_) {
    for (const Patch& patch : patches) visit(chunk, patch);
  }
}

void BlockMap::Merge(ImageChunk chunk, uint64_t blocks,
                     std::span<std::byte> base) const {
  for (const Patch& patch : PatchesOf(chunk)) {
    if ((blocks & BlockBit(patch)) == 0) continue;
    assert(patch.offset + patch.data.size() <= base.size());
    std::memcpy(base.data() + patch.offset, patch.data.data(),
                patch.data.size());
  }
}

}  // namespace bootstream
