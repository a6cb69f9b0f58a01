#ifndef INITRAMFS_DRIVER_TAKE_OVER_H_
#define INITRAMFS_DRIVER_TAKE_OVER_H_

#include <functional>
#include <string>

#include "blockmap/base/io_loop.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "initramfs/driver/driver.h"

namespace bootstream {

// A driver's dealings with the kernel and udev for a disk that it has taken
// over (initramfs/takeover), from the first partition to its own end: when
// everything has settled, the partitions get the raw disk below them
// (keeper.md, "Leaving").  What blocks does so in a thread of its own, in the
// system's root.  Thread of the loop, which must outlive it.
class TakeOver {
 public:
  struct Options {
    std::string disk;     // the raw disk
    std::string control;  // the control socket's path
    std::string root;     // where the driver has gone to; empty: nowhere
    int proc = -1;        // /proc; not owned
  };
  TakeOver(IoLoop& loop, Options options)
      : loop_(loop), options_(std::move(options)) {}
  // The device that the driver serves.
  void set_device(std::string device) { device_ = std::move(device); }

  // Make the partitions' devices.
  Task<Status> Map();
  // What a worker before us has begun: over the raw disk from now on, or as it
  // was.  kNotFound: the served device is gone.
  Task<Status> EndSwapOfAnother(bool over_raw_disk);
  // Wait until everything has settled, and leave: then SIGTERM tells this
  // process to end.  What fails is told, and tried again.
  Task<void> LeaveWhenSettled(StreamDriver& driver);
  // REQUIRES: LeaveWhenSettled was called.  Returns when that has ended.
  Task<void> Stop();
  // The last: the disk is the system's again.
  Task<Status> GiveBack();

 private:
  using Blocking = std::function<Status()>;
  Task<Status> InSystemRoot(Blocking work);
  Task<Status> Swap(StreamDriver& driver);

  IoLoop& loop_;
  Options options_;
  std::string device_;
  bool ended_ = false;
  Event left_off_;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_TAKE_OVER_H_
