#ifndef BLOCKMAP_BASE_TASK_H_
#define BLOCKMAP_BASE_TASK_H_

#include <cassert>
#include <coroutine>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "blockmap/base/result.h"

// Coroutines for code that waits.  All coroutines of one loop run on one
// thread; nothing here is thread-safe.  A resumed waiter runs at once, inside
// the call that woke it (Set, Unlock, an I/O completion), so state is made
// consistent before anybody is woken.
//
// A Task that never really waits (a blocking device) runs to its end inside
// co_await without growing the stack, whatever the optimisation level: this is
// why there is no symmetric transfer.

namespace bootstream {

template <typename T>
class Task;

namespace internal {

struct PromiseBase {
  std::coroutine_handle<> continuation;

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename P>
    void await_suspend(std::coroutine_handle<P> self) noexcept {
      // The continuation may destroy `self`; nothing follows.
      if (auto next = self.promise().continuation) next.resume();
    }
    void await_resume() noexcept {}
  };

  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { std::abort(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  T Take() { return std::move(*value); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() noexcept {}
  void Take() {}
};

}  // namespace internal

// A lazily started coroutine that yields a T.  Move-only; await it once.
// Destroying a Task that has started and not finished is a mistake of ours.
template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (handle_) handle_.destroy();
    handle_ = std::exchange(other.handle_, {});
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> waiter) {
    handle_.resume();
    if (handle_.done()) return false;
    handle_.promise().continuation = waiter;
    return true;
  }
  T await_resume() { return handle_.promise().Take(); }

 private:
  Handle handle_;
};

namespace internal {

template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

// Owns itself: starts at once, frees itself at its end.
struct Detached {
  struct promise_type {
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::abort(); }
  };
};

inline Detached RunDetached(Task<void> task) { co_await task; }

template <typename T>
Detached RunInto(Task<T> task, std::optional<T>& out) {
  out.emplace(co_await task);
}

}  // namespace internal

// Start `task` now and let it run by itself.
inline void Spawn(Task<void> task) { internal::RunDetached(std::move(task)); }

// Run a task that never really waits, as over a blocking device; its value.
// REQUIRES: everything that it awaits completes at once.
template <typename T>
T RunInline(Task<T> task) {
  std::optional<T> out;
  internal::RunInto(std::move(task), out);
  if (!out) std::abort();  // it waited for something that nobody will do
  return std::move(*out);
}

// Something that happens once, and those who wait for it.
class Event {
 public:
  bool is_set() const { return set_; }
  void Set() {
    set_ = true;
    for (auto waiters = std::move(waiters_); auto handle : waiters) {
      handle.resume();
    }
  }
  auto operator co_await() {
    struct Awaiter {
      Event& event;
      bool await_ready() const { return event.set_; }
      void await_suspend(std::coroutine_handle<> handle) {
        event.waiters_.push_back(handle);
      }
      void await_resume() {}
    };
    return Awaiter{*this};
  }

 private:
  bool set_ = false;
  std::vector<std::coroutine_handle<>> waiters_;
};

// What is under way, for one who waits until nothing is.
class UnderWay {
 public:
  class [[nodiscard]] Guard {
   public:
    explicit Guard(UnderWay& all) : all_(all) { ++all_.count_; }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() {
      if (--all_.count_ > 0 || !all_.none_) return;
      const auto none = std::exchange(all_.none_, nullptr);
      none->Set();
    }

   private:
    UnderWay& all_;
  };

  UnderWay() = default;
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;
  ~UnderWay() { assert(count_ == 0); }

  Guard Begin() { return Guard(*this); }
  bool none() const { return count_ == 0; }
  // Whoever ended last is still on the stack when this goes on.
  Task<void> Ended() {
    while (count_ > 0) {
      if (!none_) none_ = std::make_shared<Event>();
      const std::shared_ptr<Event> none = none_;
      co_await *none;
    }
  }

 private:
  size_t count_ = 0;
  std::shared_ptr<Event> none_;
};

// Shared or exclusive, first come first served: a waiting writer holds back
// later readers, so nobody starves.
class AsyncSharedMutex {
 public:
  AsyncSharedMutex() = default;
  AsyncSharedMutex(const AsyncSharedMutex&) = delete;
  AsyncSharedMutex& operator=(const AsyncSharedMutex&) = delete;
  ~AsyncSharedMutex() { assert(idle()); }

  // Held until it is destroyed or released.
  class [[nodiscard]] Guard {
   public:
    Guard() = default;
    Guard(AsyncSharedMutex* mutex, bool exclusive)
        : mutex_(mutex), exclusive_(exclusive) {}
    Guard(Guard&& other) noexcept
        : mutex_(std::exchange(other.mutex_, nullptr)),
          exclusive_(other.exclusive_) {}
    Guard& operator=(Guard&& other) noexcept {
      Release();
      mutex_ = std::exchange(other.mutex_, nullptr);
      exclusive_ = other.exclusive_;
      return *this;
    }
    ~Guard() { Release(); }
    void Release() {
      if (auto* mutex = std::exchange(mutex_, nullptr)) {
        mutex->Unlock(exclusive_);
      }
    }
    bool held() const { return mutex_ != nullptr; }

   private:
    AsyncSharedMutex* mutex_ = nullptr;
    bool exclusive_ = false;
  };

  // Stays where it is while it waits: it is its own place in the queue.
  struct Awaiter {
    AsyncSharedMutex& mutex;
    bool exclusive;
    std::coroutine_handle<> handle = {};
    Awaiter* next = nullptr;
    bool await_ready() { return mutex.TryLock(exclusive); }
    void await_suspend(std::coroutine_handle<> waiter) {
      handle = waiter;
      (mutex.last_ == nullptr ? mutex.first_ : mutex.last_->next) = this;
      mutex.last_ = this;
    }
    Guard await_resume() { return Guard(&mutex, exclusive); }
  };

  // auto guard = co_await mutex.Lock();
  Awaiter Lock() { return Awaiter{*this, true}; }
  Awaiter LockShared() { return Awaiter{*this, false}; }
  // Exclusive if that is possible without waiting; else a Guard not held().
  Guard TryLockNow() { return TryLock(true) ? Guard(this, true) : Guard(); }
  // Nobody holds it and nobody waits.
  bool idle() const { return holders_ == 0 && first_ == nullptr; }

 private:
  bool TryLock(bool exclusive) {
    if (first_ != nullptr || !Free(exclusive)) return false;
    Take(exclusive);
    return true;
  }
  bool Free(bool exclusive) const {
    return exclusive ? holders_ == 0 : holders_ >= 0;
  }
  void Take(bool exclusive) { holders_ = exclusive ? -1 : holders_ + 1; }
  void Unlock(bool exclusive) {
    holders_ = exclusive ? 0 : holders_ - 1;
    // Taken for all who may go on before the first of them runs.
    Awaiter* woken = first_;
    Awaiter* last_woken = nullptr;
    while (first_ != nullptr && Free(first_->exclusive)) {
      Take(first_->exclusive);
      last_woken = std::exchange(first_, first_->next);
    }
    if (last_woken == nullptr) return;
    last_woken->next = nullptr;
    if (first_ == nullptr) last_ = nullptr;
    while (woken != nullptr) {
      // It may be gone when it has run.
      std::exchange(woken, woken->next)->handle.resume();
    }
  }

  int holders_ = 0;  // -1: one, exclusive
  Awaiter* first_ = nullptr;
  Awaiter* last_ = nullptr;
};

// Run all of `tasks` at once; done when all are.  The first error, if any.
inline Task<Status> JoinAll(std::vector<Task<Status>> tasks) {
  struct State {
    size_t left;
    Status first;
    Event done;
  } state{tasks.size(), {}, {}};
  if (tasks.empty()) co_return OkStatus();
  const auto run = [](Task<Status> task, State& shared) -> Task<void> {
    Status status = co_await task;
    if (!status && shared.first) shared.first = std::move(status);
    if (--shared.left == 0) shared.done.Set();
  };
  for (auto& task : tasks) Spawn(run(std::move(task), state));
  co_await state.done;
  co_return std::move(state.first);
}

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_TASK_H_
