#ifndef INITRAMFS_DRIVER_ROOM_QUEUE_H_
#define INITRAMFS_DRIVER_ROOM_QUEUE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <optional>

#include "blockmap/base/executor.h"
#include "blockmap/base/task.h"

namespace bootstream {

// Writes that have found the region full.  One of them at a time tries again:
// when somebody says that there is room, when one that has waited is done, and
// every now and then, for a clean chunk may have come that can go.  One thread,
// the executor's.
class RoomQueue {
 public:
  explicit RoomQueue(Executor& executor);
  // REQUIRES: nobody waits.
  ~RoomQueue();
  RoomQueue(const RoomQueue&) = delete;
  RoomQueue& operator=(const RoomQueue&) = delete;

  // One write, from when it first found no room until it has ended.
  class Turn {
   public:
    explicit Turn(RoomQueue& queue);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    // True: try again.  False: nobody waits any more.
    Task<bool> Wait();
    // True once before each Wait: what others have given back may only want a
    // commit.
    bool FirstLook();

   private:
    friend class RoomQueue;
    RoomQueue& queue_;
    Executor::Duration since_;
    bool looked_ = false;
    std::unique_ptr<Event> wake_;  // while it waits
    std::list<Turn*>::iterator place_;
  };

  void RoomMade();
  // Whoever waits, and would wait, is told that there is no room.
  void Close();

  size_t waiting() const { return turns_.size(); }
  // Since when the oldest of them has found no room.
  std::optional<Executor::Duration> waiting_since() const;
  // Writes that have ever waited.
  uint64_t waited() const { return waited_; }

 private:
  void WakeOne();
  void Tick();

  Executor& executor_;
  std::list<Turn*> turns_;  // who tries next comes first
  bool closed_ = false;
  bool waking_ = false;
  bool ticking_ = false;
  Executor::Duration pause_;
  uint64_t waited_ = 0;
  // Set false by the destructor: timers that fire later do nothing.
  std::shared_ptr<bool> alive_;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_ROOM_QUEUE_H_
