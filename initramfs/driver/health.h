#ifndef INITRAMFS_DRIVER_HEALTH_H_
#define INITRAMFS_DRIVER_HEALTH_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>

#include "blockmap/base/executor.h"
#include "blockmap/map/map_store.h"
#include "initramfs/driver/engine.h"

namespace bootstream {

// Counts boots in which the target did not come up, and takes the report that
// it has.  After a few of them, and only if the target has never been healthy,
// the next start goes back to the old system; so a boot that merely waits for
// the server must not count (initramfs/health.md).
//
//   begun --server answers, or is not needed--> counted
//   begun or counted --a read waits too long--> waited   (not counted)
//   any --ReportHealthy--> healthy                       (counters are zero)
//
// A boot is counted when it has shown that the server answers, not when it
// begins: a power cut before that leaves it uncounted.  One thread, the
// executor's.
class BootHealth {
 public:
  struct Options {
    // This boot, as the kernel names it: a driver that is started again in the
    // same boot does not count it twice.  Zeroes: every start is a boot.
    Uuid boot_id{};
    // A read that has had no answer for so long is waiting for the server.
    Executor::Duration wait_limit = std::chrono::seconds(5);
    // A target that has missed nothing for so long does not need the server.
    Executor::Duration quiet = std::chrono::seconds(10);
    Executor::Duration interval = std::chrono::milliseconds(100);
  };

  // All must outlive it.  Does nothing until Start().
  BootHealth(Executor& executor, MapStore& store, const StreamEngine& engine,
             Options options);
  ~BootHealth();

  void Start();
  // After this nothing is under way, and nothing will be.
  Task<void> Stop();
  // The target says that it is well: nothing is undone without a person from
  // now on.
  Task<Status> ReportHealthy();

  enum class State : uint8_t { kBegun, kCounted, kWaited, kHealthy };
  State state() const { return state_; }

 private:
  void WatchSoon();
  Task<void> Watch();
  Task<void> Judge();
  Task<Status> Count();
  Task<Status> Uncount();

  Executor& executor_;
  MapStore& store_;
  const StreamEngine& engine_;
  Options options_;
  State state_ = State::kBegun;
  Executor::Duration quiet_since_{0};
  bool stopped_ = false;
  std::shared_ptr<Event> watching_;  // set: Watch is under way
  // False from the destructor on: timers that fire later do nothing.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

std::string_view HealthName(BootHealth::State state);

// The running kernel's boot_id; zeroes where it cannot be read.
Uuid ThisBoot();

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_HEALTH_H_
