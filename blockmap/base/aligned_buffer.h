#ifndef BLOCKMAP_BASE_ALIGNED_BUFFER_H_
#define BLOCKMAP_BASE_ALIGNED_BUFFER_H_

#include <cstddef>
#include <memory>
#include <span>

#include "blockmap/base/buffer_memory.h"

namespace bootstream {

// Memory that starts on a 4 KiB boundary, as O_DIRECT asks for.  Zeroed when
// made.  Move-only.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Aborts when memory is exhausted, as operator new does.
  explicit AlignedBuffer(size_t size);
  // Not zeroed: for whoever fills all of it before anybody looks.
  static AlignedBuffer Unfilled(size_t size);

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return data_ ? data_.get_deleter().size : 0; }
  std::span<std::byte> span() { return {data_.get(), size()}; }
  std::span<const std::byte> span() const { return {data_.get(), size()}; }

 private:
  struct Free {
    Free() : size(0) {}
    explicit Free(size_t of) : size(of) {}
    void operator()(std::byte* data) const { GiveBufferMemory(data, size); }
    size_t size;
  };
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_ALIGNED_BUFFER_H_
