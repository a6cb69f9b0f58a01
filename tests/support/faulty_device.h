#ifndef TESTS_SUPPORT_FAULTY_DEVICE_H_
#define TESTS_SUPPORT_FAULTY_DEVICE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/types.h"

namespace bootstream {

// A disk that is failing, over one that is not: some places cannot be read or
// written, the n-th request ends in kIo and does nothing, or one waits.
class FaultyDevice final : public BlockDevice {
 public:
  explicit FaultyDevice(BlockDevice& next) : next_(next) {}

  void Submit(IoRequest& request) override {
    if (std::exchange(holds_next_, false)) {
      held_.push_back(&request);
      return;
    }
    if (Fails(request)) {
      ++failure_count_;
      return request.complete(
          request, Error{ErrorCode::kIo,
                         "injected: byte " + std::to_string(request.offset)});
    }
    if (request.op == IoRequest::Op::kWrite && heal_by_writing_) {
      std::erase_if(unreadable_, [&](const ByteExtent& bad) {
        return bad.offset >= request.offset &&
               bad.end() <= request.offset + request.size;
      });
    }
    next_.Submit(request);
  }
  uint64_t size_bytes() const override { return next_.size_bytes(); }

  // Requests that touch the place fail from now on.
  void FailReadsOf(uint64_t offset, uint64_t size) {
    unreadable_.push_back({offset, size});
  }
  void FailWritesTo(uint64_t offset, uint64_t size) {
    unwritable_.push_back({offset, size});
  }
  // As drives do: a sector that is written can be read again.
  void HealByWriting() { heal_by_writing_ = true; }
  // Request number `n` from now (0 is the next one) fails, once.
  void FailRead(uint64_t n) { fail_read_ = reads_ + n; }
  void FailWrite(uint64_t n) { fail_write_ = writes_ + n; }
  void FailFlush(uint64_t n) { fail_flush_ = flushes_ + n; }
  // The next request, and that one only, waits for LetGo.
  void HoldOne() { holds_next_ = true; }
  // The one that has waited longest is made.
  void LetGo() {
    IoRequest* const request = held_.front();
    held_.pop_front();
    Submit(*request);
  }
  bool holds_one() const { return !held_.empty(); }
  void Mend() {
    unreadable_.clear();
    unwritable_.clear();
    fail_read_ = fail_write_ = fail_flush_ = std::nullopt;
  }

  // Sees every read, write and flush before it is made.
  void Watch(std::function<void(const IoRequest&)> watch) {
    watch_ = std::move(watch);
  }

  uint64_t read_count() const { return reads_; }
  uint64_t write_count() const { return writes_; }
  uint64_t flush_count() const { return flushes_; }
  uint64_t failure_count() const { return failure_count_; }

 private:
  static bool Touches(const std::vector<ByteExtent>& places,
                      const IoRequest& request) {
    for (const ByteExtent& place : places) {
      if (request.offset < place.end() &&
          place.offset < request.offset + request.size) {
        return true;
      }
    }
    return false;
  }
  bool Fails(const IoRequest& request) {
    if (watch_) watch_(request);
    switch (request.op) {
      case IoRequest::Op::kRead:
        return fail_read_ == reads_++ || Touches(unreadable_, request);
      case IoRequest::Op::kWrite:
        return fail_write_ == writes_++ || Touches(unwritable_, request);
      case IoRequest::Op::kFlush:
        break;
    }
    return fail_flush_ == flushes_++;
  }

  BlockDevice& next_;
  std::function<void(const IoRequest&)> watch_;
  std::vector<ByteExtent> unreadable_;
  std::vector<ByteExtent> unwritable_;
  bool heal_by_writing_ = false;
  bool holds_next_ = false;
  std::deque<IoRequest*> held_;  // not owned
  std::optional<uint64_t> fail_read_;
  std::optional<uint64_t> fail_write_;
  std::optional<uint64_t> fail_flush_;
  uint64_t reads_ = 0;
  uint64_t writes_ = 0;
  uint64_t flushes_ = 0;
  uint64_t failure_count_ = 0;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_FAULTY_DEVICE_H_
