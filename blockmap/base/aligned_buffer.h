#ifndef BLOCKMAP_BASE_ALIGNED_BUFFER_H_
#define BLOCKMAP_BASE_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>

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
  size_t size() const { return size_; }
  std::span<std::byte> span() { return {data_.get(), size_}; }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_ALIGNED_BUFFER_H_
