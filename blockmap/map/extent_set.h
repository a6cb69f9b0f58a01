#ifndef BLOCKMAP_MAP_EXTENT_SET_H_
#define BLOCKMAP_MAP_EXTENT_SET_H_

#include <cassert>
#include <cstdint>
#include <iterator>
#include <map>

#include "blockmap/base/types.h"

namespace bootstream {

// A set of numbers kept as runs.  Every operation costs the logarithm of the
// number of runs.
class ExtentSet {
 public:
  bool empty() const { return count_ == 0; }
  uint64_t count() const { return count_; }
  bool Contains(uint64_t number) const {
    const auto after = runs_.upper_bound(number);
    return after != runs_.begin() && number < std::prev(after)->second;
  }
  // REQUIRES: not empty.
  uint64_t lowest() const { return runs_.begin()->first; }
  uint64_t highest() const { return std::prev(runs_.end())->second - 1; }

  // REQUIRES: none of `run` is in the set.
  void Add(DiskExtent run) {
    if (run.count == 0) return;
    count_ += run.count;
    auto after = runs_.lower_bound(run.first);
    uint64_t end = run.end();
    if (after != runs_.end() && after->first == end) {
      end = after->second;
      after = runs_.erase(after);
    }
    if (after != runs_.begin()) {
      const auto before = std::prev(after);
      assert(before->second <= run.first);
      if (before->second == run.first) {
        before->second = end;
        return;
      }
    }
    runs_.emplace_hint(after, run.first, end);
  }

  // REQUIRES: `number` is in the set.
  void Remove(uint64_t number) {
    auto run = std::prev(runs_.upper_bound(number));
    const auto [first, end] = *run;
    assert(first <= number && number < end);
    --count_;
    if (number + 1 < end) runs_.emplace(number + 1, end);
    if (first < number) {
      run->second = number;
    } else {
      runs_.erase(run);
    }
  }

 private:
  std::map<uint64_t, uint64_t> runs_;  // first -> end
  uint64_t count_ = 0;
};

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_EXTENT_SET_H_
