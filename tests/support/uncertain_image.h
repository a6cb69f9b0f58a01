#ifndef TESTS_SUPPORT_UNCERTAIN_IMAGE_H_
#define TESTS_SUPPORT_UNCERTAIN_IMAGE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "blockmap/base/types.h"

namespace bootstream {

// What may be read from a device whose disk fails now and then.  What was
// acknowledged is there; what was not, and what was not flushed when the driver
// ended, is old or new, sector by sector, and is not compared.
class UncertainImage {
 public:
  explicit UncertainImage(std::vector<std::byte> content)
      : content_(std::move(content)), unsure_(content_.size() / kSectorBytes) {}

  uint64_t size() const { return content_.size(); }
  void Wrote(uint64_t offset, std::span<const std::byte> data, bool ok) {
    if (ok) {
      std::memcpy(content_.data() + offset, data.data(), data.size());
    } else {
      MakeUnsure(offset, data.size());
    }
    unflushed_.emplace_back(offset, data.size());
  }
  void Flushed(bool ok) {
    if (!ok) return Ended();
    unflushed_.clear();
  }
  // Whatever was not flushed is lost or not.
  void Ended() {
    for (const auto& [offset, size] : unflushed_) MakeUnsure(offset, size);
  }
  void Compare(uint64_t offset, std::span<const std::byte> got) const {
    for (uint64_t at = 0; at < got.size(); at += kSectorBytes) {
      if (unsure_[(offset + at) / kSectorBytes]) continue;
      ASSERT_EQ(std::memcmp(got.data() + at, content_.data() + offset + at,
                            kSectorBytes),
                0)
          << "byte " << offset + at;
    }
  }

 private:
  void MakeUnsure(uint64_t offset, uint64_t size) {
    for (uint64_t at = offset; at < offset + size; at += kSectorBytes) {
      unsure_[at / kSectorBytes] = true;
    }
  }

  std::vector<std::byte> content_;
  std::vector<bool> unsure_;  // by sector
  std::vector<std::pair<uint64_t, uint64_t>> unflushed_;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_UNCERTAIN_IMAGE_H_
