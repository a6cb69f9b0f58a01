#ifndef INITRAMFS_DRIVER_CHUNK_LOCKS_H_
#define INITRAMFS_DRIVER_CHUNK_LOCKS_H_

#include <coroutine>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "blockmap/base/task.h"
#include "blockmap/base/types.h"

namespace bootstream {

// A shared/exclusive lock for each image chunk that somebody works on.  Shared:
// read, or overwrite what is dirty already, where the map says it is.
// Exclusive: change the chunk's state or its place.  Locks exist only while
// they are held or awaited.  One thread.
class ChunkLocks {
 public:
  class [[nodiscard]] Guard {
   public:
    Guard() = default;
    Guard(ChunkLocks* locks, ImageChunk chunk, AsyncSharedMutex::Guard inner)
        : locks_(locks), chunk_(chunk), inner_(std::move(inner)) {}
    Guard(Guard&& other) noexcept
        : locks_(std::exchange(other.locks_, nullptr)),
          chunk_(other.chunk_),
          inner_(std::move(other.inner_)) {}
    Guard& operator=(Guard&& other) noexcept {
      Release();
      locks_ = std::exchange(other.locks_, nullptr);
      chunk_ = other.chunk_;
      inner_ = std::move(other.inner_);
      return *this;
    }
    ~Guard() { Release(); }
    void Release() {
      ChunkLocks* locks = std::exchange(locks_, nullptr);
      if (locks == nullptr) return;
      inner_.Release();
      locks->Forget(chunk_);
    }

   private:
    ChunkLocks* locks_ = nullptr;
    ImageChunk chunk_;
    AsyncSharedMutex::Guard inner_;
  };

  struct Awaiter {
    ChunkLocks& locks;
    ImageChunk chunk;
    AsyncSharedMutex::Awaiter inner;
    bool await_ready() { return inner.await_ready(); }
    void await_suspend(std::coroutine_handle<> waiter) {
      inner.await_suspend(waiter);
    }
    Guard await_resume() { return Guard(&locks, chunk, inner.await_resume()); }
  };
  // auto guard = co_await locks.Shared(chunk);
  Awaiter Shared(ImageChunk chunk) {
    return Awaiter{*this, chunk, MutexOf(chunk).LockShared()};
  }
  Awaiter Exclusive(ImageChunk chunk) {
    return Awaiter{*this, chunk, MutexOf(chunk).Lock()};
  }
  // Exclusive, if nobody holds or awaits the chunk now.
  std::optional<Guard> TryExclusive(ImageChunk chunk) {
    AsyncSharedMutex::Guard inner = MutexOf(chunk).TryLockNow();
    if (!inner.held()) return std::nullopt;
    return Guard(this, chunk, std::move(inner));
  }

 private:
  using Mutexes = std::unordered_map<ImageChunk, AsyncSharedMutex>;
  static constexpr size_t kSparesMax = 256;

  AsyncSharedMutex& MutexOf(ImageChunk chunk) {
    const auto found = mutexes_.find(chunk);
    if (found != mutexes_.end()) return found->second;
    if (spares_.empty()) return mutexes_[chunk];
    Mutexes::node_type node = std::move(spares_.back());
    spares_.pop_back();
    node.key() = chunk;
    return mutexes_.insert(std::move(node)).position->second;
  }
  // Looked up anew: whoever was woken by the release may have forgotten it.
  void Forget(ImageChunk chunk) {
    const auto found = mutexes_.find(chunk);
    if (found == mutexes_.end() || !found->second.idle()) return;
    if (spares_.size() == kSparesMax) {
      mutexes_.erase(found);
    } else {
      spares_.push_back(mutexes_.extract(found));
    }
  }

  Mutexes mutexes_;
  std::vector<Mutexes::node_type> spares_;  // idle, to be used again
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_CHUNK_LOCKS_H_
