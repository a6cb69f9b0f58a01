#include "blockmap/base/aligned_buffer.h"

#include <cstdlib>
#include <cstring>

#include "blockmap/base/types.h"

namespace bootstream {

AlignedBuffer::AlignedBuffer(size_t size) : size_(size) {
  const size_t rounded = (size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  if (rounded == 0) return;
  void* memory = std::aligned_alloc(kBlockBytes, rounded);
  if (memory == nullptr) std::abort();
  std::memset(memory, 0, rounded);
  data_.reset(static_cast<std::byte*>(memory));
}

}  // namespace bootstream
