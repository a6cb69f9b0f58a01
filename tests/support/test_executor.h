#ifndef TESTS_SUPPORT_TEST_EXECUTOR_H_
#define TESTS_SUPPORT_TEST_EXECUTOR_H_

#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "blockmap/base/executor.h"

namespace bootstream {

// An executor whose clock stands still until it is told to go on.
class TestExecutor final : public Executor {
 public:
  void Post(std::function<void()> work) override {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  void PostAfter(Duration delay, std::function<void()> work) override {
    timers_.emplace(now_ + delay, std::move(work));
  }
  Duration Now() const override { return now_; }

  // Run what is posted and due, and what that posts, until there is no more.
  void RunReady() {
    while (RunPosted() || RunDue()) {
    }
  }
  // Let the clock go on by `delay`, running timers in their order.
  void Advance(Duration delay) {
    const Duration end = now_ + delay;
    RunReady();
    while (!timers_.empty() && timers_.begin()->first <= end) {
      now_ = timers_.begin()->first;
      RunReady();
    }
    now_ = end;
  }
  // Let the clock go on to the next timer; false: there is none.
  bool RunNextTimer() {
    RunReady();
    if (timers_.empty()) return false;
    now_ = timers_.begin()->first;
    RunReady();
    return true;
  }
  bool has_timers() const { return !timers_.empty(); }

 private:
  bool RunPosted() {
    std::vector<std::function<void()>> work;
    {
      const std::lock_guard lock(mutex_);
      work.swap(posted_);
    }
    for (auto& item : work) item();
    return !work.empty();
  }
  bool RunDue() {
    if (timers_.empty() || timers_.begin()->first > now_) return false;
    auto work = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    work();
    return true;
  }
  Duration now_{0};
  std::multimap<Duration, std::function<void()>> timers_;
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_TEST_EXECUTOR_H_
