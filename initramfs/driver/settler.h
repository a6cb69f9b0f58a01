#ifndef INITRAMFS_DRIVER_SETTLER_H_
#define INITRAMFS_DRIVER_SETTLER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "blockmap/base/executor.h"
#include "blockmap/base/task.h"
#include "initramfs/driver/engine.h"
#include "initramfs/driver/pacer.h"

namespace bootstream {

// Brings everything home, behind the user's back, once the source is given up
// and the image complete; then says so durably (Phase::kSettled), and looks
// every second whether that is still so.  After a start it begins again, and
// what is at home or zero already costs a look.  One thread, the executor's.
class Settler {
 public:
  struct Options {
    uint64_t bytes_per_second = 0;  // of the disk; 0: no limit
    uint32_t parallel_chunks = 4;
    DiskYield::Options yield = {};
  };
  // kNone: the time has not come.
  enum class State : uint8_t { kNone, kPaused, kRunning, kSettled };
  struct Progress {
    uint64_t chunks = 0;   // of the image
    uint64_t settled = 0;  // of them
  };

  // All must outlive the Settler, which must outlive the executor's last turn.
  Settler(Executor& executor, StreamEngine& engine, MapStore& store,
          Options options);

  void Start();
  void Pause() { paused_ = true; }
  void Resume() { paused_ = false; }
  void SetLimit(uint64_t bytes_per_second) {
    pacer_.SetLimit(bytes_per_second);
  }
  // Take up no new chunk, and wait until none is under way.
  Task<void> Stop();

  State state() const;
  Progress progress() const;
  // Why it does not end; empty: it goes on.
  const std::string& failure() const { return failure_; }

 private:
  Task<void> Run();
  Task<void> Pass();
  Task<void> Worker(Event& all_done, uint32_t& running);

  Executor& executor_;
  StreamEngine& engine_;
  MapStore& store_;
  Options options_;
  Pacer pacer_;
  bool paused_ = false;
  bool stopped_ = false;
  uint64_t next_ = 0;
  bool started_ = false;
  Event ended_;
  std::string failure_;
};

std::string_view SettlerStateName(Settler::State state);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_SETTLER_H_
