#include "blockmap/base/buffer_reserve.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <functional>

#include "blockmap/base/types.h"

namespace bootstream {

void BufferReserve::Fill(std::byte* memory, size_t bytes) {
  const std::lock_guard lock(mutex_);
  assert(memory_ == nullptr && bytes <= kBytesMax && bytes % kBlockBytes == 0);
  memory_ = memory;
  blocks_ = bytes / kBlockBytes;
}

std::byte* BufferReserve::Take(size_t bytes) {
  const size_t wanted = bytes / kBlockBytes;
  const std::lock_guard lock(mutex_);
  size_t run = 0;
  for (size_t at = 0; at < blocks_;) {
    const size_t in_word = kWordBlocks - at % kWordBlocks;
    const uint64_t word = taken_[at / kWordBlocks] >> (at % kWordBlocks);
    const auto taken = static_cast<size_t>(std::countr_one(word));
    if (taken > 0) run = 0;
    const size_t free =
        taken > 0 ? 0 : std::min<size_t>(std::countr_zero(word), in_word);
    run += free;
    at += taken + free;
    if (run < wanted) continue;
    const size_t first = at - run;
    if (first + wanted > blocks_) break;
    Mark(first, wanted, true);
    return memory_ + first * kBlockBytes;
  }
  return nullptr;
}

bool BufferReserve::Give(std::byte* memory, size_t bytes) {
  const std::lock_guard lock(mutex_);
  const std::less<> before;
  if (memory_ == nullptr || before(memory, memory_) ||
      !before(memory, memory_ + blocks_ * kBlockBytes)) {
    return false;
  }
  Mark(static_cast<size_t>(memory - memory_) / kBlockBytes, bytes / kBlockBytes,
       false);
  return true;
}

void BufferReserve::Mark(size_t first, size_t count, bool taken) {
  for (size_t at = first; at < first + count;) {
    const size_t in_word =
        std::min(kWordBlocks - at % kWordBlocks, first + count - at);
    const uint64_t ones =
        in_word == kWordBlocks ? ~uint64_t{0} : (uint64_t{1} << in_word) - 1;
    const uint64_t mask = ones << (at % kWordBlocks);
    uint64_t& word = taken_[at / kWordBlocks];
    assert((word & mask) == (taken ? 0 : mask));
    word = taken ? word | mask : word & ~mask;
    at += in_word;
  }
}

}  // namespace bootstream
