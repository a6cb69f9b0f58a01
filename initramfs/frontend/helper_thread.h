#ifndef INITRAMFS_FRONTEND_HELPER_THREAD_H_
#define INITRAMFS_FRONTEND_HELPER_THREAD_H_

#include <coroutine>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "blockmap/base/io_loop.h"

namespace bootstream {

// Run blocking `work` on a thread of its own while the loop goes on; its value,
// a Status or Result.  `work` may use no state that the loop's thread changes
// meanwhile.
//   auto detaching = OnThread(loop, [path] { return Detach(path); });
//   Status s = co_await detaching;
// (Two lines: g++ 12 destroys a lambda twice that is made inside co_await.)
template <typename Work>
auto OnThread(IoLoop& loop, Work work) -> Task<decltype(work())> {
  using Value = decltype(work());
  struct Awaiter {
    IoLoop& loop;
    Work& work;
    std::optional<Value> value;
    std::thread thread;
    bool await_ready() const { return false; }
    bool await_suspend(std::coroutine_handle<> handle) {
      try {
        // The posted work runs later, on this thread: `thread` is set by then.
        thread = std::thread([this, handle] {
          value.emplace(work());
          loop.Post([handle] { handle.resume(); });
        });
        return true;
      } catch (const std::system_error& error) {
        value.emplace(Error{ErrorCode::kUnavailable,
                            std::string("start a thread: ") + error.what()});
        return false;
      }
    }
    Value await_resume() {
      if (thread.joinable()) thread.join();
      return std::move(*value);
    }
  };
  Awaiter awaiter{loop, work, std::nullopt, std::thread()};
  co_return co_await awaiter;
}

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_HELPER_THREAD_H_
