#ifndef BLOCKMAP_BASE_BUFFER_RESERVE_H_
#define BLOCKMAP_BASE_BUFFER_RESERVE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace bootstream {

// One piece of memory that is there from the start, given out in runs of whole
// blocks: the lowest run that is long enough.  Which block is taken is a bit.
//
// Any thread.
class BufferReserve {
 public:
  static constexpr size_t kBytesMax = size_t{32} << 20;

  constexpr BufferReserve() = default;
  BufferReserve(const BufferReserve&) = delete;
  BufferReserve& operator=(const BufferReserve&) = delete;

  // The memory is `memory`, of whole blocks and at most kBytesMax long; it is
  // never given back.  Once.
  void Fill(std::byte* memory, size_t bytes);

  // Sizes in whole blocks.  Null: there is no such run.
  std::byte* Take(size_t bytes);
  // False: it is not ours.
  bool Give(std::byte* memory, size_t bytes);

 private:
  static constexpr size_t kWordBlocks = 64;

  void Mark(size_t first, size_t count, bool taken);

  std::mutex mutex_;
  std::byte* memory_ = nullptr;
  size_t blocks_ = 0;
  std::array<uint64_t, kBytesMax / 4096 / kWordBlocks> taken_{};
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_BUFFER_RESERVE_H_
