#ifndef BLOCKMAP_BASE_ASYNC_ROOM_H_
#define BLOCKMAP_BASE_ASYNC_ROOM_H_

#include <coroutine>
#include <cstdint>
#include <utility>

namespace bootstream {

// So many units, of which each holder has some; who finds too few waits, first
// come first served.  One who wants more than there are gets them when nobody
// holds any.  One thread, as everything in task.h.  It
// outlives its holders, unless none of them ever goes on.
class AsyncRoom {
 public:
  explicit AsyncRoom(uint64_t units) : units_(units) {}
  AsyncRoom(const AsyncRoom&) = delete;
  AsyncRoom& operator=(const AsyncRoom&) = delete;

  // Held until it is destroyed.
  class [[nodiscard]] Share {
   public:
    Share(AsyncRoom& room, uint64_t units) : room_(&room), units_(units) {}
    Share(Share&& other) noexcept
        : room_(std::exchange(other.room_, nullptr)), units_(other.units_) {}
    Share& operator=(Share&&) = delete;
    ~Share() {
      if (room_ != nullptr) room_->Return(units_);
    }

   private:
    AsyncRoom* room_;
    uint64_t units_;
  };

  // Stays where it is while it waits: it is its own place in the queue.
  struct Awaiter {
    AsyncRoom& room;
    uint64_t units;
    std::coroutine_handle<> handle = {};
    Awaiter* next = nullptr;
    bool await_ready() {
      if (room.first_ != nullptr || !room.Fits(units)) return false;
      room.taken_ += units;
      return true;
    }
    void await_suspend(std::coroutine_handle<> waiter) {
      handle = waiter;
      (room.last_ == nullptr ? room.first_ : room.last_->next) = this;
      room.last_ = this;
    }
    Share await_resume() { return Share(room, units); }
  };

  // auto share = co_await room.Take(units);
  Awaiter Take(uint64_t units) { return Awaiter{*this, units}; }

 private:
  bool Fits(uint64_t units) const {
    return taken_ == 0 || (taken_ <= units_ && units <= units_ - taken_);
  }
  void Return(uint64_t units) {
    taken_ -= units;
    while (first_ != nullptr && Fits(first_->units)) {
      Awaiter* const woken = first_;
      first_ = woken->next;
      if (first_ == nullptr) last_ = nullptr;
      taken_ += woken->units;
      woken->handle.resume();  // it may be gone when it has run
    }
  }

  const uint64_t units_;
  uint64_t taken_ = 0;
  Awaiter* first_ = nullptr;
  Awaiter* last_ = nullptr;
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_ASYNC_ROOM_H_
