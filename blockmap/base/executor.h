#ifndef BLOCKMAP_BASE_EXECUTOR_H_
#define BLOCKMAP_BASE_EXECUTOR_H_

#include <chrono>
#include <coroutine>
#include <functional>

namespace bootstream {

// Where and when things run: one thread, and a clock.  IoLoop is the real one;
// tests/support/test_executor.h has one with a clock that is wound by hand.
class Executor {
 public:
  using Duration = std::chrono::nanoseconds;
  virtual ~Executor() = default;

  // Run `work` on the executor's thread, soon, in the order posted.  Any thread
  // may call this.
  virtual void Post(std::function<void()> work) = 0;
  // The same after `delay`.  Executor's thread only.
  virtual void PostAfter(Duration delay, std::function<void()> work) = 0;
  // Monotonic.
  virtual Duration Now() const = 0;

  // co_await executor.Sleep(std::chrono::seconds(1));
  auto Sleep(Duration delay) {
    struct Awaiter {
      Executor& executor;
      Duration delay;
      bool await_ready() const { return false; }
      void await_suspend(std::coroutine_handle<> handle) {
        executor.PostAfter(delay, [handle] { handle.resume(); });
      }
      void await_resume() {}
    };
    return Awaiter{*this, delay};
  }
  // Go to the end of the queue.
  auto Yield() { return Sleep(Duration(0)); }
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_EXECUTOR_H_
