#ifndef BLOCKMAP_NBD_BUFFER_POOL_H_
#define BLOCKMAP_NBD_BUFFER_POOL_H_

#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "blockmap/base/aligned_buffer.h"

namespace bootstream {

// Payload buffers that start on a 4 KiB boundary, used over and over.  What a
// lent buffer holds is undefined: never send what was not filled.  Sizes are
// rounded up to powers of two; at most `kept_bytes_max` stay allocated while
// nobody uses them.  One thread.
class BufferPool {
 public:
  explicit BufferPool(size_t kept_bytes_max = 16 << 20)
      : kept_bytes_max_(kept_bytes_max) {}
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // A buffer on loan; goes back to the pool when destroyed.
  class Lease {
   public:
    Lease() = default;
    Lease(BufferPool* pool, AlignedBuffer buffer, size_t size)
        : pool_(pool), buffer_(std::move(buffer)), size_(size) {}
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)),
          buffer_(std::move(other.buffer_)),
          size_(std::exchange(other.size_, 0)) {}
    Lease& operator=(Lease&& other) noexcept {
      Return();
      pool_ = std::exchange(other.pool_, nullptr);
      buffer_ = std::move(other.buffer_);
      size_ = std::exchange(other.size_, 0);
      return *this;
    }
    ~Lease() { Return(); }
    // The bytes asked for.
    std::span<std::byte> span() { return {buffer_.data(), size_}; }
    size_t size() const { return size_; }
    void Return() {
      size_ = 0;
      if (auto* pool = std::exchange(pool_, nullptr)) {
        pool->Give(std::move(buffer_));
      }
    }

   private:
    BufferPool* pool_ = nullptr;  // not owned
    AlignedBuffer buffer_;
    size_t size_ = 0;
  };

  // REQUIRES: 0 < size <= kBufferBytesMax; the pool outlives the lease.
  Lease Take(size_t size);

  static constexpr size_t kBufferBytesMin = 4096;
  static constexpr size_t kBufferBytesMax = kBufferBytesMin << 13;  // 32 MiB

 private:
  void Give(AlignedBuffer buffer);

  size_t kept_bytes_max_;
  size_t kept_bytes_ = 0;
  std::array<std::vector<AlignedBuffer>, 14> kept_;  // [i]: 4 KiB << i
};

}  // namespace bootstream

#endif  // BLOCKMAP_NBD_BUFFER_POOL_H_
