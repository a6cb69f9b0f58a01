#ifndef BLOCKMAP_MAP_BLOCK_MAP_H_
#define BLOCKMAP_MAP_BLOCK_MAP_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "blockmap/base/types.h"

namespace bootstream {

// Where an image chunk is: nowhere on the disk (its content is the manifest's),
// nowhere because it is all zero, or in a disk chunk.
class Location {
 public:
  Location() = default;  // absent
  static Location Zero() { return Location(kZero); }
  static Location At(DiskChunk chunk) { return Location(chunk.value); }
  static Location FromRaw(uint64_t raw) { return Location(raw); }
  bool is_absent() const { return raw_ == kAbsent; }
  bool is_zero() const { return raw_ == kZero; }
  bool on_disk() const { return raw_ < kZero; }
  DiskChunk chunk() const { return DiskChunk{raw_}; }  // REQUIRES: on_disk()
  uint64_t raw() const { return raw_; }  // as format.md 2.6 writes it
  bool operator==(const Location&) const = default;

 private:
  static constexpr uint64_t kAbsent = ~uint64_t{0};
  static constexpr uint64_t kZero = kAbsent - 1;
  explicit Location(uint64_t raw) : raw_(raw) {}
  uint64_t raw_ = kAbsent;
};

// State of one image chunk.  A bit for each block, block 0 lowest.
struct ChunkState {
  Location location;
  uint64_t valid = 0;  // the disk chunk holds the block's content
  uint64_t dirty = 0;  // the block may differ from the image (also: an intent)
  bool operator==(const ChunkState&) const = default;
};

// Part of a block, written before the block's base has arrived.
struct Patch {
  uint32_t offset = 0;  // bytes, in the chunk; the patch stays inside a block
  std::vector<std::byte> data;
};

// The map in memory: image chunk -> state, relocated source chunk -> where it
// is now, and patches.  Pure data: no I/O, no rules.  One thread.
//
// Pages of 128 chunks, made when the first of them gets a state: 24 bytes a
// chunk in use and 1/128 of a page header.
class BlockMap {
 public:
  static constexpr uint64_t kPageChunks = 128;

  // Absent if nothing was set.
  ChunkState Get(ImageChunk chunk) const;
  // Drops patches that `state` makes void (format.md 2.6, record 1).  Setting
  // the absent state forgets the chunk, and its page with the last one.
  void Set(ImageChunk chunk, const ChunkState& state);
  // Ascending.  `visit` must not change the map.
  void ForEach(
      const std::function<void(ImageChunk, const ChunkState&)>& visit) const;
  uint64_t chunk_count() const { return chunk_count_; }
  uint64_t page_count() const { return pages_.size(); }

  // Where the source's chunk is now; nullopt: in its place.
  std::optional<DiskChunk> Relocated(DiskChunk source) const;
  void SetRelocation(DiskChunk source, std::optional<DiskChunk> now);
  void ForgetRelocations() {
    ++relocation_changes_;
    relocations_.clear();
  }
  // How often the two have been called: a read that began before knows whether
  // its place may have become somebody else's.
  uint64_t relocation_changes() const { return relocation_changes_; }
  const std::map<DiskChunk, DiskChunk>& relocations() const {
    return relocations_;
  }

  // REQUIRES: inside one block, not empty.
  void AddPatch(ImageChunk chunk, Patch patch);
  // In the order in which they were added; empty if none.
  std::span<const Patch> PatchesOf(ImageChunk chunk) const;
  void ForEachPatch(
      const std::function<void(ImageChunk, const Patch&)>& visit) const;
  bool has_patches() const { return !patches_.empty(); }
  uint64_t patch_count() const { return patch_count_; }
  uint64_t patch_bytes() const { return patch_bytes_; }  // of data

  // Apply the chunk's patches that lie in `blocks` (a mask) to its whole
  // content `base`, in order.
  void Merge(ImageChunk chunk, uint64_t blocks,
             std::span<std::byte> base) const;

 private:
  struct Page {
    std::array<ChunkState, kPageChunks> states;
    uint32_t used = 0;
  };
  void DropPatches(ImageChunk chunk, const ChunkState& state);

  std::map<uint64_t, std::unique_ptr<Page>> pages_;  // by chunk / kPageChunks
  uint64_t chunk_count_ = 0;
  std::map<DiskChunk, DiskChunk> relocations_;
  uint64_t relocation_changes_ = 0;
  std::map<ImageChunk, std::vector<Patch>> patches_;
  uint64_t patch_count_ = 0;
  uint64_t patch_bytes_ = 0;
};

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_BLOCK_MAP_H_
