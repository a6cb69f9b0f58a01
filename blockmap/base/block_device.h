#ifndef BLOCKMAP_BASE_BLOCK_DEVICE_H_
#define BLOCKMAP_BASE_BLOCK_DEVICE_H_

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "blockmap/base/result.h"

namespace bootstream {

// One read, write or flush under way.  The memory belongs to the caller until
// `complete` has been called.
struct IoRequest {
  enum class Op : uint8_t { kRead, kWrite, kFlush };
  Op op = Op::kFlush;
  uint64_t offset = 0;  // bytes; multiple of kSectorBytes
  std::byte* data = nullptr;
  uint64_t size = 0;  // bytes; multiple of kSectorBytes
  // Of a write: `data` is all zero, and the device may do without it (WRITE
  // ZEROES, a hole).
  bool zeroes = false;
  void (*complete)(IoRequest& request, Status status) = nullptr;
};

// The only door to storage.  Programs pass a PosixBlockDevice (blocking) or a
// UringBlockDevice; crash tests pass one that loses or tears unflushed writes.
// One thread: Submit is called, and completions arrive, on the loop's thread.
class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  // Begin `request`.  `complete` may be called before Submit returns.  A read
  // or write is all or an error: a short one is kIo.  A flush covers every
  // write that completed before it was submitted.
  // REQUIRES: offset, size and the address of the memory are multiples of
  // kSectorBytes, and the range lies inside the device.
  virtual void Submit(IoRequest& request) = 0;
  virtual uint64_t size_bytes() const = 0;

  class Awaiter : private IoRequest {
   public:
    Awaiter(BlockDevice& device, Op op, uint64_t offset, std::byte* data,
            uint64_t size, bool zeroes = false)
        : IoRequest{op, offset, data, size, zeroes, &Awaiter::Complete},
          device_(device) {}
    bool await_ready() const { return false; }
    bool await_suspend(std::coroutine_handle<> handle) {
      device_.Submit(*this);
      if (done_) return false;
      handle_ = handle;
      return true;
    }
    Status await_resume() { return std::move(status_); }

   private:
    static void Complete(IoRequest& request, Status status) {
      auto& self = static_cast<Awaiter&>(request);
      self.status_ = std::move(status);
      self.done_ = true;
      if (self.handle_) self.handle_.resume();
    }
    BlockDevice& device_;
    Status status_;
    bool done_ = false;
    std::coroutine_handle<> handle_;
  };

  // Status s = co_await device.Read(offset, out);
  Awaiter Read(uint64_t offset, std::span<std::byte> out) {
    return Awaiter(*this, IoRequest::Op::kRead, offset, out.data(), out.size());
  }
  Awaiter Write(uint64_t offset, std::span<const std::byte> data) {
    return Awaiter(*this, IoRequest::Op::kWrite, offset,
                   const_cast<std::byte*>(data.data()), data.size());
  }
  // A write of `zeroes`, which are.
  Awaiter WriteZeroes(uint64_t offset, std::span<const std::byte> zeroes) {
    return Awaiter(*this, IoRequest::Op::kWrite, offset,
                   const_cast<std::byte*>(zeroes.data()), zeroes.size(), true);
  }
  // OK once every write that completed before is on stable storage.
  Awaiter Flush() {
    return Awaiter(*this, IoRequest::Op::kFlush, 0, nullptr, 0);
  }
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_BLOCK_DEVICE_H_
