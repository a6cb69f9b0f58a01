#include "blockmap/nbd/buffer_pool.h"

#include <bit>
#include <cassert>

namespace bootstream {
namespace {

// The class whose buffers hold `size` bytes.
size_t ClassOf(size_t size) {
  const size_t pages =
      (size + BufferPool::kBufferBytesMin - 1) / BufferPool::kBufferBytesMin;
  return static_cast<size_t>(std::countr_zero(std::bit_ceil(pages)));
}

}  // namespace

BufferPool::Lease BufferPool::Take(size_t size) {
  assert(size > 0 && size <= kBufferBytesMax);
  const size_t index = ClassOf(size);
  auto& kept = kept_[index];
  if (kept.empty()) {
    return Lease(this, AlignedBuffer::Unfilled(kBufferBytesMin << index), size);
  }
  AlignedBuffer buffer = std::move(kept.back());
  kept.pop_back();
  kept_bytes_ -= buffer.size();
  return Lease(this, std::move(buffer), size);
}

void BufferPool::Give(AlignedBuffer buffer) {
  if (kept_bytes_ + buffer.size() > kept_bytes_max_) return;
  kept_bytes_ += buffer.size();
  kept_[ClassOf(buffer.size())].push_back(std::move(buffer));
}

}  // namespace bootstream
