#include "blockmap/base/aligned_buffer.h"

#include <cstdlib>
#include <cstring>

#include "blockmap/base/types.h"

namespace bootstream {

AlignedBuffer AlignedBuffer::Unfilled(size_t size) {
  AlignedBuffer buffer;
  buffer.size_ = size;
  const size_t rounded = (size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  if (rounded == 0) return buffer;
  void* memory = std::aligned_alloc(kBlockBytes, rounded);
  if (memory == nullptr) std::abort();
  buffer.data_.reset(static_cast<std::byte*>(memory));
  return buffer;
}

AlignedBuffer::AlignedBuffer(size_t size) : AlignedBuffer(Unfilled(size)) {
  if (data_) std::memset(data_.get(), 0, size_);
}

}  // namespace bootstream
