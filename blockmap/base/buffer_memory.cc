#include "blockmap/base/buffer_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

#include "blockmap/base/buffer_reserve.h"

namespace bootstream {
namespace {

constexpr size_t kSmallest = kBlockBytes;
constexpr size_t kLargest = size_t{32} << 20;
constexpr size_t kKeptBytesMax = size_t{64} << 20;

bool IsMapped(size_t bytes) { return kBufferMemoryIsKept && bytes <= kLargest; }

// What memory of `wanted` bytes is rounded up to: whole blocks, and whole
// quarters of the power of two below them.
class Size {
 public:
  explicit constexpr Size(size_t wanted)
      : log2_(static_cast<unsigned>(std::bit_width(WholeBlocks(wanted) - 1)) -
              1),
        quarters_((WholeBlocks(wanted) - 1) / quarter_bytes() + 1) {}
  constexpr size_t bytes() const { return quarters_ * quarter_bytes(); }
  constexpr size_t index() const { return 4 * log2_ + quarters_; }

 private:
  constexpr size_t quarter_bytes() const { return size_t{1} << (log2_ - 2); }

  unsigned log2_;
  size_t quarters_;  // 5 to 8
};

constexpr size_t kFirstIndex = Size(kSmallest).index();
constexpr size_t kSizes = Size(kLargest).index() - kFirstIndex + 1;

// Freed memory, linked through its first bytes.
struct Kept {
  Kept* next;
};

class KeptOfOneSize {
 public:
  bool empty() const { return first_ == nullptr; }
  std::byte* Take() {
    Kept* const taken = first_;
    first_ = taken->next;
    least_ = std::min(least_, --count_);
    return reinterpret_cast<std::byte*>(taken);
  }
  void Keep(std::byte* memory) {
    first_ = new (memory) Kept{first_};
    ++count_;
  }
  // What has lain here since the last call, `count` of it.
  Kept* TakeUnused(size_t& count) {
    count = least_;
    Kept* unused = nullptr;
    for (size_t i = 0; i < count; ++i) {
      Kept* const next = first_->next;
      first_->next = unused;
      unused = std::exchange(first_, next);
    }
    count_ -= count;
    least_ = count_;
    return unused;
  }

 private:
  Kept* first_ = nullptr;
  size_t count_ = 0;
  size_t least_ = 0;  // of count_, since TakeUnused
};

class KeptMemory {
 public:
  std::byte* Take(Size size) {
    const std::lock_guard lock(mutex_);
    KeptOfOneSize& kept = Of(size);
    if (kept.empty()) return nullptr;
    bytes_ -= size.bytes();
    return kept.Take();
  }

  // False: there is enough.
  bool Keep(std::byte* memory, Size size) {
    const std::lock_guard lock(mutex_);
    if (bytes_ + size.bytes() > kKeptBytesMax) return false;
    bytes_ += size.bytes();
    Of(size).Keep(memory);
    return true;
  }

  Kept* TakeUnused(Size size) {
    const std::lock_guard lock(mutex_);
    size_t count = 0;
    Kept* const unused = Of(size).TakeUnused(count);
    bytes_ -= count * size.bytes();
    return unused;
  }

 private:
  KeptOfOneSize& Of(Size size) { return of_size_[size.index() - kFirstIndex]; }

  std::mutex mutex_;
  std::array<KeptOfOneSize, kSizes> of_size_;
  size_t bytes_ = 0;
};

// Trivially destroyed: buffers may outlive any static object.
constinit KeptMemory kept_memory;
constinit BufferReserve reserve;
constinit thread_local bool takes_from_reserve = false;

std::byte* Map(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  return static_cast<std::byte*>(memory);
}

}  // namespace

std::byte* TakeBufferMemory(size_t bytes) {
  if (!IsMapped(bytes)) {
    void* memory = std::aligned_alloc(kBlockBytes, WholeBlocks(bytes));
    if (memory == nullptr) std::abort();
    return static_cast<std::byte*>(memory);
  }
  if (takes_from_reserve) {
    if (std::byte* memory = reserve.Take(WholeBlocks(bytes))) return memory;
  }
  const Size size(bytes);
  if (std::byte* memory = kept_memory.Take(size)) return memory;
  return Map(size.bytes());
}

void GiveBufferMemory(std::byte* memory, size_t bytes) {
  if (!IsMapped(bytes)) return std::free(memory);
  if (reserve.Give(memory, WholeBlocks(bytes))) return;
  const Size size(bytes);
  if (!kept_memory.Keep(memory, size)) ::munmap(memory, size.bytes());
}

void ReserveBufferMemory(size_t bytes) {
  if (!kBufferMemoryIsKept) return;
  reserve.Fill(Map(bytes), bytes);
  takes_from_reserve = true;
}

void ReleaseUnusedBufferMemory() {
  for (size_t bytes = kSmallest; bytes <= kLargest;) {
    const Size size(bytes);
    for (Kept* unused = kept_memory.TakeUnused(size); unused != nullptr;) {
      ::munmap(std::exchange(unused, unused->next), size.bytes());
    }
    bytes = size.bytes() + 1;
  }
}

}  // namespace bootstream
