#include "blockmap/base/aligned_buffer.h"

#include <cstdlib>
#include <cstring>

#include "blockmap/base/types.h"

namespace bootstream {

namespace {

size_t Rounded(size_t size) {
  return (size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

}  // namespace

AlignedBuffer AlignedBuffer::Unfilled(size_t size) {
  AlignedBuffer buffer;
  buffer.size_ = size;
  if (size == 0) return buffer;
  void* memory = std::aligned_alloc(kBlockBytes, Rounded(size));
  if (memory == nullptr) std::abort();
  buffer.data_.reset(static_cast<std::byte*>(memory));
  return buffer;
}

AlignedBuffer::AlignedBuffer(size_t size) : AlignedBuffer(Unfilled(size)) {
  if (data_) std::memset(data_.get(), 0, Rounded(size_));
}

}  // namespace bootstream
