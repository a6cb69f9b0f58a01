#include "blockmap/base/aligned_buffer.h"

#include <cstring>

namespace bootstream {

AlignedBuffer AlignedBuffer::Unfilled(size_t size) {
  AlignedBuffer buffer;
  if (size > 0) buffer.data_ = {TakeBufferMemory(size), Free{size}};
  return buffer;
}

AlignedBuffer::AlignedBuffer(size_t size) : AlignedBuffer(Unfilled(size)) {
  if (data_) std::memset(data_.get(), 0, WholeBlocks(size));
}

}  // namespace bootstream
