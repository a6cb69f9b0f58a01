#include "initramfs/driver/take_over.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <iostream>
#include <optional>
#include <thread>

#include "initramfs/takeover/takeover.h"

namespace bootstream {
namespace {

constexpr auto kLookWhetherSettled = std::chrono::milliseconds(100);
constexpr int kLooksBeforeNextTry = 300;
// The boot script's (bootstream_forbid_hibernation).
constexpr char kNoHibernation[] = "/run/systemd/sleep.conf.d/bootstream.conf";

// From now on this thread sees the machine as its first process does: our own
// root has neither /dev nor /sys.
Status EnterSystemRoot(int proc) {
  const UniqueFd root(
      ::openat(proc, "1/root", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root || ::unshare(CLONE_FS) != 0 || ::fchdir(root.get()) != 0 ||
      ::chroot(".") != 0) {
    return ErrnoError(errno, "enter the system's root");
  }
  return OkStatus();
}

// What blocks, perhaps while somebody waits for what this loop serves.
Task<Status> DoAside(IoLoop& loop, std::function<Status()> work) {
  Event done;
  Status status;
  std::thread worker([&] {
    status = work();
    loop.Post([&] { done.Set(); });
  });
  co_await done;
  worker.join();
  co_return status;
}

}  // namespace

Task<Status> TakeOver::Map() {
  Blocking map = [this] {
    const auto mapped = MapPartitions(options_.disk, device_);
    return mapped ? OkStatus() : Status(mapped.error());
  };
  co_return co_await DoAside(loop_, std::move(map));
}

Task<Status> TakeOver::EndSwapOfAnother(bool over_raw_disk) {
  Blocking end = [this, over_raw_disk] {
    return EndSwap(options_.disk, device_, over_raw_disk);
  };
  co_return co_await InSystemRoot(std::move(end));
}

Task<void> TakeOver::LeaveWhenSettled(StreamDriver& driver) {
  while (!ended_) {
    co_await loop_.Sleep(kLookWhetherSettled);
    if (ended_ || !driver.may_leave()) continue;
    const Status status = co_await Swap(driver);
    if (status) {
      ::kill(::getpid(), SIGTERM);
      break;
    }
    if (status.error().code == ErrorCode::kUnavailable) continue;
    std::cerr << "streamd: the driver stays: " << status.error().message
              << std::endl;
    for (int i = 0; i < kLooksBeforeNextTry && !ended_; ++i) {
      co_await loop_.Sleep(kLookWhetherSettled);
    }
  }
  left_off_.Set();
}

Task<void> TakeOver::Stop() {
  ended_ = true;
  co_await left_off_;
}

Task<Status> TakeOver::GiveBack() {
  Blocking give = [this] {
    // Who finds no socket finds a disk that has been given back.
    Status given = GiveDiskBack(options_.disk, device_);
    ::unlink(kNoHibernation);
    ::unlink(options_.control.c_str());
    return given;
  };
  co_return co_await InSystemRoot(std::move(give));
}

Task<Status> TakeOver::InSystemRoot(Blocking work) {
  Blocking inside = [this, work = std::move(work)] {
    if (!options_.root.empty()) {
      if (auto s = EnterSystemRoot(options_.proc); !s) return s;
    }
    return work();
  };
  co_return co_await DoAside(loop_, std::move(inside));
}

// The partitions' devices get the raw disk, and the map leaves it, while
// nobody reads or writes.
Task<Status> TakeOver::Swap(StreamDriver& driver) {
  std::optional<PartitionSwap> swap;
  Blocking prepare = [&] {
    auto prepared = PartitionSwap::Prepare(options_.disk, device_);
    if (!prepared) return Status(prepared.error());
    swap.emplace(std::move(*prepared));
    return OkStatus();
  };
  if (auto s = co_await InSystemRoot(std::move(prepare)); !s) co_return s;
  const size_t count = swap->partition_count();
  const auto begun = loop_.Now();
  Blocking suspend = [&] { return swap->Suspend(); };
  Status status = co_await InSystemRoot(std::move(suspend));
  if (status) status = co_await driver.Leave();
  const bool left = status.has_value();
  Blocking resume = [&] { return left ? swap->Finish() : swap->Undo(); };
  const Status resumed = co_await InSystemRoot(std::move(resume));
  const auto held = std::chrono::duration_cast<std::chrono::microseconds>(
      loop_.Now() - begun);
  if (status) status = resumed;
  if (!status) co_return status;
  std::cerr << "streamd: everything has settled, and the driver leaves; the "
            << count << " partitions were held for " << held.count() << " us"
            << std::endl;
  co_return status;
}

}  // namespace bootstream
