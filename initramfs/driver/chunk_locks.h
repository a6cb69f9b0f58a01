#ifndef INITRAMFS_DRIVER_CHUNK_LOCKS_H_
#define INITRAMFS_DRIVER_CHUNK_LOCKS_H_

#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

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

  Task<Guard> Shared(ImageChunk chunk) {
    AsyncSharedMutex::Guard inner = co_await MutexOf(chunk).LockShared();
    co_return Guard(this, chunk, std::move(inner));
  }
  Task<Guard> Exclusive(ImageChunk chunk) {
    AsyncSharedMutex::Guard inner = co_await MutexOf(chunk).Lock();
    co_return Guard(this, chunk, std::move(inner));
  }
  // Exclusive, if nobody holds or awaits the chunk now.
  std::optional<Guard> TryExclusive(ImageChunk chunk) {
    AsyncSharedMutex::Guard inner = MutexOf(chunk).TryLockNow();
    if (!inner.held()) return std::nullopt;
    return Guard(this, chunk, std::move(inner));
  }

 private:
  AsyncSharedMutex& MutexOf(ImageChunk chunk) {
    auto& mutex = mutexes_[chunk];
    if (!mutex) mutex = std::make_unique<AsyncSharedMutex>();
    return *mutex;
  }
  // Looked up anew: whoever was woken by the release may have forgotten it.
  void Forget(ImageChunk chunk) {
    const auto found = mutexes_.find(chunk);
    if (found != mutexes_.end() && found->second->idle()) {
      mutexes_.erase(found);
    }
  }
  std::unordered_map<ImageChunk, std::unique_ptr<AsyncSharedMutex>> mutexes_;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_CHUNK_LOCKS_H_
