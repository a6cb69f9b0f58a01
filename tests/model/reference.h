#ifndef TESTS_MODEL_REFERENCE_H_
#define TESTS_MODEL_REFERENCE_H_

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "blockmap/base/types.h"

namespace bootstream {

// The contents that a sector has ever had, by number, so that sets of them are
// small.
class ContentTable {
 public:
  uint32_t Number(std::span<const std::byte> sector);
  std::span<const std::byte> Bytes(uint32_t number) const;

 private:
  std::unordered_map<std::string, uint32_t> numbers_;
  std::vector<const std::string*> contents_;
};

// What the target may read, for each sector, given which requests have been
// sent, answered and flushed: a block device without a disk.
//
// A sector has a set of *states*, each a content and which of the changes under
// way have been applied to it; a change is applied once, at any time between
// its beginning and its end.  After a power cut a sector holds any content that
// it may have had since the beginning of the last flush that has ended well.
class Reference {
 public:
  // `base`: the whole image as it is now, durable.  Both must outlive it.
  Reference(ContentTable& table, std::span<const std::byte> base)
      : table_(table), base_(base) {}

  struct Change {
    uint64_t offset = 0;
    std::vector<std::byte> data;
    bool is_hint = false;  // a discard: each sector changes or does not
    bool fua = false;
  };
  // `op`: a number below 32, not used by another request under way.
  void BeginChange(int op, Change change);
  void EndChange(int op, bool ok);
  void BeginFlush(int op);
  void EndFlush(int op, bool ok);
  void BeginRead(int op, uint64_t offset, uint64_t size);
  // Why `data` cannot be what was read; empty: it can.
  std::string EndRead(int op, std::span<const std::byte> data);

  // Why the target, back after a power cut now, cannot read `image`.
  std::string CheckAfterCut(std::span<const std::byte> image) const;
  // Equal for equal answers of CheckAfterCut.
  uint64_t CutFingerprint() const;

 private:
  struct Cell {
    std::set<std::pair<uint32_t, uint32_t>> states;  // content, applied
    std::set<uint32_t> after_cut;
    // What it may have been since a flush, read or FUA write began; of the
    // latter: since that was applied.
    std::map<int, std::set<uint32_t>> since;
    std::set<int> raced_reads;
  };
  struct Span {
    uint64_t offset = 0;
    uint64_t size = 0;
    uint64_t first() const { return offset / kSectorBytes; }
    uint64_t end() const {
      return (offset + size + kSectorBytes - 1) / kSectorBytes;
    }
  };

  Cell& CellOf(uint64_t sector);
  std::span<const std::byte> BaseOf(uint64_t sector) const;
  // What `change` makes of `content` in `sector`.
  uint32_t Applied(const Change& change, uint64_t sector,
                   uint32_t content) const;
  void AddState(Cell& cell, uint32_t content, uint32_t applied);
  // Every way in which the changes under way may go on from each state.
  void Close(Cell& cell, uint64_t sector);
  static std::set<uint32_t> Contents(const Cell& cell);

  ContentTable& table_;
  std::span<const std::byte> base_;
  std::map<uint64_t, Cell> cells_;  // those that something was written to
  std::map<int, Change> changes_;   // under way
  std::map<int, Span> reads_;
  std::set<int> flushes_;
};

}  // namespace bootstream

#endif  // TESTS_MODEL_REFERENCE_H_
