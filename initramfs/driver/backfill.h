#ifndef INITRAMFS_DRIVER_BACKFILL_H_
#define INITRAMFS_DRIVER_BACKFILL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockmap/base/executor.h"
#include "blockmap/base/task.h"
#include "initramfs/driver/engine.h"
#include "initramfs/driver/pacer.h"

namespace bootstream {

// Brings in, behind the user's back, what nobody has read yet: the traced reads
// of a boot in their order, then everything in the order of the packs, so that
// requests are long.  While others keep the disk busy it gives way.  When every
// chunk is there it says so durably (Phase::kComplete).  One thread, the
// executor's.
class Backfill {
 public:
  struct Options {
    bool start_paused = false;
    // A paused start resumes by itself after this long, as soon as it is quiet;
    // zero: never.
    Executor::Duration resume_after{0};
    // Where nobody has told it to begin, it begins so much later: of many
    // machines that are switched on at once each has its own.
    Executor::Duration start_jitter{0};
    // Quiet is when for so long nothing was read that had not been read before.
    Executor::Duration quiet = std::chrono::seconds(30);
    uint64_t bytes_per_second = 0;  // compressed; 0: no limit
    uint32_t parallel_fetches = 48;
    DiskYield::Options yield = {};
  };
  enum class State : uint8_t { kPaused, kRunning, kRegionFull, kComplete };

  // All must outlive the Backfill, which must outlive the executor's last turn.
  Backfill(Executor& executor, StreamEngine& engine, MapStore& store,
           Options options);

  void Start();
  void Pause();
  void Resume();
  // As soon as it is quiet, unless somebody says pause before that.
  void ResumeWhenQuiet();
  // There is room again, should there have been none.
  void GoOnWithRoom();
  void SetLimit(uint64_t bytes_per_second) {
    pacer_.SetLimit(bytes_per_second);
  }
  // Take up no new chunk, and wait until nothing but downloads is under way;
  // for the end of the program.
  Task<void> Stop();

  State state() const { return state_; }
  uint64_t limit_bytes_per_second() const {
    return pacer_.limit_bytes_per_second();
  }
  const std::string& failure() const { return failure_; }
  // Set when the image is complete and that is durable.
  Event& completed() { return completed_; }

 private:
  Task<void> Run();
  Task<void> Worker(Event& all_done, uint32_t& running);
  Task<Status> AuditBootSet();
  Task<Status> DeclareComplete();
  void MakeOrder();
  void RegionIsFull();
  void LookWhetherQuiet();
  // Waits while paused, while the disk is busy, and while the rate is used up.
  Task<void> WaitForTurn(uint64_t bytes);

  Executor& executor_;
  StreamEngine& engine_;
  MapStore& store_;
  Options options_;
  State state_ = State::kPaused;
  bool stopped_ = false;
  bool waits_for_quiet_ = false;
  Pacer pacer_;
  std::unique_ptr<Event> resumed_ = std::make_unique<Event>();
  Executor::Duration begins_at_{0};
  std::vector<ImageChunk> order_;
  size_t next_ = 0;
  UnderWay declaring_;
  std::string failure_;
  Event completed_;
};

std::string_view BackfillStateName(Backfill::State state);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_BACKFILL_H_
