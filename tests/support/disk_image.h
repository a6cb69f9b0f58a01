#ifndef TESTS_SUPPORT_DISK_IMAGE_H_
#define TESTS_SUPPORT_DISK_IMAGE_H_

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace bootstream {

// The bytes of a disk.  Copies are cheap: they share what neither has written.
class DiskImage {
 public:
  // All zero.
  explicit DiskImage(uint64_t size_bytes) : size_(size_bytes) {}
  explicit DiskImage(std::vector<std::byte> bytes)
      : size_(bytes.size()),
        base_(
            std::make_shared<const std::vector<std::byte>>(std::move(bytes))) {}

  uint64_t size() const { return size_; }
  // Whether anything was ever written to the 4 KiB at `offset`.
  bool IsWritten(uint64_t offset) const {
    return pages_.contains(offset / kPage);
  }

  void Read(uint64_t offset, std::span<std::byte> out) const {
    ForEachPage(
        offset, out.size(),
        [&](uint64_t number, uint64_t in_page, uint64_t done, uint64_t size) {
          const auto page = pages_.find(number);
          if (page != pages_.end()) {
            std::memcpy(out.data() + done, page->second->data() + in_page,
                        size);
          } else {
            ReadBase(number * kPage + in_page, out.subspan(done, size));
          }
        });
  }

  void Write(uint64_t offset, std::span<const std::byte> data) {
    ForEachPage(
        offset, data.size(),
        [&](uint64_t number, uint64_t in_page, uint64_t done, uint64_t size) {
          std::memcpy(OwnPage(number).data() + in_page, data.data() + done,
                      size);
        });
  }

 private:
  static constexpr uint64_t kPage = 4096;
  using Page = std::array<std::byte, kPage>;

  template <typename F>
  void ForEachPage(uint64_t offset, uint64_t size, F visit) const {
    assert(offset <= size_ && size <= size_ - offset);
    for (uint64_t done = 0; done < size;) {
      const uint64_t at = offset + done;
      const uint64_t part = std::min(kPage - at % kPage, size - done);
      visit(at / kPage, at % kPage, done, part);
      done += part;
    }
  }
  void ReadBase(uint64_t offset, std::span<std::byte> out) const {
    if (base_) {
      std::memcpy(out.data(), base_->data() + offset, out.size());
    } else {
      std::fill(out.begin(), out.end(), std::byte{0});
    }
  }
  Page& OwnPage(uint64_t number) {
    std::shared_ptr<Page>& page = pages_[number];
    if (!page) {
      page = std::make_shared<Page>();
      const uint64_t offset = number * kPage;
      ReadBase(offset, std::span(*page).first(std::min(kPage, size_ - offset)));
    } else if (page.use_count() > 1) {
      page = std::make_shared<Page>(*page);
    }
    return *page;
  }

  uint64_t size_;
  std::shared_ptr<const std::vector<std::byte>> base_;  // null: zeroes
  std::unordered_map<uint64_t, std::shared_ptr<Page>> pages_;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_DISK_IMAGE_H_
