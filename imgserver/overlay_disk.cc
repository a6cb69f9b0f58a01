#include "imgserver/overlay_disk.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace bootstream {
namespace {

// Call `work(block number, offset in the block, offset in the range, size)` for
// each block that the range touches, until it fails.
template <typename Work>
Status ForEachBlock(uint64_t offset, uint64_t size, Work work) {
  for (uint64_t done = 0; done < size;) {
    const uint64_t at = offset + done;
    const uint64_t inside = at % kBlockBytes;
    const uint64_t part = std::min(kBlockBytes - inside, size - done);
    if (Status s = work(at / kBlockBytes, inside, done, part); !s) return s;
    done += part;
  }
  return OkStatus();
}

}  // namespace

Result<OverlayDisk::Block*> OverlayDisk::Writable(uint64_t number) {
  const auto found = written_.find(number);
  if (found != written_.end()) return &found->second;
  if (written_.size() >= blocks_max_) {
    return Error{ErrorCode::kNoSpace, "the boot writes too much"};
  }
  Block block;
  if (auto s = image_.Read(number * kBlockBytes, block); !s) return s.error();
  return &written_.emplace(number, block).first->second;
}

Task<Status> OverlayDisk::Read(uint64_t offset, std::span<std::byte> out) {
  if (auto status = image_.Read(offset, out); !status) co_return status;
  co_return ForEachBlock(
      offset, out.size(),
      [&](uint64_t number, uint64_t inside, uint64_t done, uint64_t part) {
        const auto found = written_.find(number);
        if (found != written_.end()) {
          std::memcpy(out.data() + done, found->second.data() + inside, part);
        }
        return OkStatus();
      });
}

Task<Status> OverlayDisk::Write(uint64_t offset,
                                std::span<const std::byte> data, bool) {
  co_return ForEachBlock(offset, data.size(),
                         [&](uint64_t number, uint64_t inside, uint64_t done,
                             uint64_t part) -> Status {
                           const auto block = Writable(number);
                           if (!block) return block.error();
                           std::memcpy((*block)->data() + inside,
                                       data.data() + done, part);
                           return OkStatus();
                         });
}

Task<Status> OverlayDisk::WriteZeroes(uint64_t offset, uint64_t size,
                                      bool fua) {
  const std::vector<std::byte> zeroes(1 << 20);
  for (uint64_t done = 0; done < size; done += zeroes.size()) {
    const auto part = std::min<uint64_t>(zeroes.size(), size - done);
    auto status =
        co_await Write(offset + done, std::span(zeroes).first(part), fua);
    if (!status) co_return status;
  }
  co_return OkStatus();
}

}  // namespace bootstream
