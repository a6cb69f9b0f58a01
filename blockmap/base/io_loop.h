#ifndef BLOCKMAP_BASE_IO_LOOP_H_
#define BLOCKMAP_BASE_IO_LOOP_H_

#include <liburing.h>
#include <sys/socket.h>

#include <coroutine>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <queue>
#include <span>
#include <vector>

#include "blockmap/base/executor.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// The event loop: one io_uring, timers, and work posted from other threads.
// Everything but Post and Stop belongs to the thread that runs the loop.
// Sources: io_uring(7), liburing.
class IoLoop final : public Executor {
 public:
  // `entries`: size of the submission queue.
  static Result<std::unique_ptr<IoLoop>> Create(unsigned entries = 256);
  ~IoLoop() override;
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  void Post(std::function<void()> work) override;
  void PostAfter(Duration delay, std::function<void()> work) override;
  Duration Now() const override;

  // Run until Stop; then return, whatever is still under way.
  void Run();
  // Any thread.
  void Stop();
  // Start `task`, run until it has ended; its value.
  template <typename T>
  T RunUntilDone(Task<T> task) {
    std::optional<T> out;
    Spawn(Finish(std::move(task), out));
    if (!out) Run();
    stopping_ = false;
    return std::move(*out);
  }

  // An operation under way.  `complete` gets the kernel's result: a count, or
  // minus errno.
  struct Operation {
    void (*complete)(Operation& operation, int result) = nullptr;
  };
  // Room in the submission queue, for `operation`; the caller prepares it with
  // an io_uring_prep_... call at once (which must come before anything else).
  // It is submitted when the loop next turns.
  template <typename Prepare>
  void Submit(Operation& operation, Prepare prepare) {
    io_uring_sqe* sqe = NextEntry();
    prepare(sqe);
    io_uring_sqe_set_data(sqe, &operation);
  }

  // Submit what is prepared now, and not when the loop next turns.
  void SubmitNow();

  // Awaitable form of one operation: int result = co_await loop.Do(prepare).
  template <typename Prepare>
  struct Awaiter : Operation {
    IoLoop& loop;
    Prepare prepare;
    int result = 0;
    std::coroutine_handle<> handle;
    Awaiter(IoLoop& owner, Prepare prep)
        : Operation{&Awaiter::Complete},
          loop(owner),
          prepare(std::move(prep)) {}
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      handle = waiter;
      loop.Submit(*this, prepare);
    }
    int await_resume() const { return result; }
    static void Complete(Operation& operation, int result) {
      auto& self = static_cast<Awaiter&>(operation);
      self.result = result;
      self.handle.resume();
    }
  };
  template <typename Prepare>
  Awaiter<Prepare> Do(Prepare prepare) {
    return Awaiter<Prepare>(*this, std::move(prepare));
  }

  // Bytes received (0: the peer is done), or minus errno.
  auto Recv(int fd, std::span<std::byte> out, int flags = 0) {
    return Do([=](io_uring_sqe* sqe) {
      io_uring_prep_recv(sqe, fd, out.data(), out.size(), flags);
    });
  }
  auto Send(int fd, std::span<const std::byte> data, int flags = 0) {
    return Do([=](io_uring_sqe* sqe) {
      io_uring_prep_send(sqe, fd, data.data(), data.size(),
                         flags | MSG_NOSIGNAL);
    });
  }
  auto SendMsg(int fd, const msghdr* message, unsigned flags = 0) {
    return Do([=](io_uring_sqe* sqe) {
      io_uring_prep_sendmsg(sqe, fd, message, flags | MSG_NOSIGNAL);
    });
  }
  // A new descriptor, or minus errno.
  auto Accept(int fd) {
    return Do([=](io_uring_sqe* sqe) {
      io_uring_prep_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
    });
  }
  // The poll(2) events that are there, or minus errno.
  auto Poll(int fd, unsigned events) {
    return Do(
        [=](io_uring_sqe* sqe) { io_uring_prep_poll_add(sqe, fd, events); });
  }
  // All of `out`, or kIo; kUnavailable when the peer closed before its first
  // byte.
  Task<Status> RecvAll(int fd, std::span<std::byte> out);
  Task<Status> SendAll(int fd, std::span<const std::byte> data, int flags = 0);

 private:
  struct Timer {
    Duration when;
    uint64_t order;
    std::function<void()> work;
    bool operator<(const Timer& other) const {
      return when != other.when ? when > other.when : order > other.order;
    }
  };
  struct WakeOperation : Operation {
    IoLoop* loop = nullptr;
    uint64_t value = 0;
  };

  IoLoop() = default;
  template <typename T>
  Task<void> Finish(Task<T> task, std::optional<T>& out) {
    out.emplace(co_await task);
    stopping_ = true;
  }
  void Enable();
  io_uring_sqe* NextEntry();
  void ArmWake();
  void RunPosted();
  void RunTimers();
  void WaitAndComplete();

  io_uring ring_{};
  bool ring_ready_ = false;
  bool disabled_ = false;  // until somebody runs the loop
  UniqueFd wake_fd_;
  WakeOperation wake_;
  bool stopping_ = false;
  uint64_t timer_order_ = 0;
  std::priority_queue<Timer> timers_;
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;  // under posted_mutex_
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_IO_LOOP_H_
