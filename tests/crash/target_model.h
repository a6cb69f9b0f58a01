#ifndef TESTS_CRASH_TARGET_MODEL_H_
#define TESTS_CRASH_TARGET_MODEL_H_

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/types.h"

namespace bootstream {

// What the target may read back: for each block of the image, every content
// that it was given, when that was acknowledged, and when it was durable.
// Times are a device's clock; a promise counts for a power cut at a later time.
// REQUIRES: writes that are under way at the same time touch different blocks.
class TargetModel {
 public:
  explicit TargetModel(std::span<const std::byte> image);

  // A write, with zeroes for a discard that will be carried out.
  uint64_t BeginWrite(uint64_t clock, uint64_t offset,
                      std::span<const std::byte> data);
  void EndWrite(uint64_t ticket, uint64_t clock, bool fua);
  uint64_t BeginFlush() const { return order_; }
  void EndFlush(uint64_t ticket, uint64_t clock);

  uint64_t block_count() const { return blocks_.size(); }
  std::span<const std::byte> Latest(uint64_t block) const;
  std::vector<std::byte> LatestContent() const;

  // May the block read as `content` after a power cut at `clock`?  Its last
  // durable content or any later one; a mixture of these by the sector only
  // where a write was of a part of the block, or if the disk `tore` one.
  bool Allows(uint64_t block, std::span<const std::byte> content,
              uint64_t clock, bool tore) const;
  // The same for content at `offset` of the image; what is wrong, or nothing.
  std::string Check(uint64_t offset, std::span<const std::byte> content,
                    uint64_t clock, bool tore) const;

 private:
  static constexpr uint64_t kNever = ~uint64_t{0};
  struct Version {
    std::vector<std::byte> content;  // empty: zeroes
    uint64_t begun = 0;              // clock
    uint64_t durable = kNever;       // clock
    uint64_t acknowledged = kNever;  // order
    uint64_t ticket = 0;
    bool whole = true;  // the write was of the whole block
  };
  struct Place {
    uint64_t block = 0;
    size_t version = 0;
  };
  Version& At(const Place& place) {
    return blocks_[place.block][place.version];
  }

  uint64_t size_bytes_;
  std::vector<std::vector<Version>> blocks_;
  uint64_t order_ = 1;  // ticks with every acknowledgement
  uint64_t next_ticket_ = 1;
  std::map<uint64_t, std::vector<Place>> under_way_;  // by ticket
  std::vector<Place> not_durable_;                    // acknowledged
};

}  // namespace bootstream

#endif  // TESTS_CRASH_TARGET_MODEL_H_
