#ifndef INITRAMFS_DRIVER_RECOVERY_SET_H_
#define INITRAMFS_DRIVER_RECOVERY_SET_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "blockmap/base/types.h"

namespace bootstream {

// Chunks of the image that are not given up for room as long as this driver
// serves: what the network needs to come back by itself (control.md).  Bounded.
// Pure.
class RecoverySet {
 public:
  // However much room there is; bounds memory, and what a keeper is given.
  static constexpr uint64_t kChunksMax = uint64_t{1} << 16;

  // Until the Close that belongs to it, what is read joins: of all that ever
  // joins, `chunks_max` at most.
  void Open(uint64_t chunks_max);
  void Close();
  bool is_open() const { return windows_ != 0; }
  // What does not fit is left out.
  void Add(ImageChunk chunk);

  bool Contains(ImageChunk chunk) const {
    return !chunks_.empty() && chunks_.contains(chunk);
  }
  uint64_t count() const { return chunks_.size(); }
  uint64_t chunks_max() const { return chunks_max_; }
  // Whether nothing was left out.
  bool is_whole() const { return whole_; }
  // Ascending.
  std::vector<ImageChunk> Sorted() const;

  // For a driver that comes after this one.
  std::vector<std::byte> Encode() const;
  // What Encode has made of chunks below `chunk_count`; nullopt: it is not.
  static std::optional<RecoverySet> Decode(std::span<const std::byte> bytes,
                                           uint64_t chunk_count);

 private:
  std::unordered_set<ImageChunk> chunks_;
  uint64_t chunks_max_ = 0;
  uint32_t windows_ = 0;
  bool whole_ = true;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_RECOVERY_SET_H_
