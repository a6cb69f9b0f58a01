#ifndef INITRAMFS_DRIVER_PROCESS_H_
#define INITRAMFS_DRIVER_PROCESS_H_

#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

// What a process must do to hold up the root file system, and fast.

namespace bootstream {

// Goes into the background when it is ready, not before: the first process
// waits for the word of the second, passes it on and ends.
class Daemonizer {
 public:
  // Fork.  Returns in the second process only; the first one prints what
  // Ready or Failed say and exits with 0 or that code.  REQUIRES: one thread.
  static Result<Daemonizer> Fork();
  // Tell the first process `line` (stdout) and let it end with 0.
  void Ready(const std::string& line);
  // Tell it `line` (stderr) and let it end with `exit_code`.
  void Failed(const std::string& line, int exit_code);

 private:
  explicit Daemonizer(UniqueFd pipe) : pipe_(std::move(pipe)) {}
  void Tell(char exit_code, const std::string& line);
  UniqueFd pipe_;
};

// Root-storage manners: `@` as first byte of argv[0], so that systemd's last
// kill passes us over (systemd.io/ROOT_STORAGE_DAEMONS); memory locked; never
// chosen by the OOM killer; memory reclaim that we wait for does no I/O through
// us (PR_SET_IO_FLUSHER, prctl(2)); a crash leaves no core dump.
Status BecomeRootStorage(char** argv);
// The part of it that a child does not inherit.
Status LockMemory();

// For whoever serves swap: a kernel that waits for us to write pages out has
// none for us.  Buffers and heap as they are wanted under way are there from
// now on, and are not given back.  REQUIRES: LockMemory; once.
void ReserveMemory();
// This thread, but none that it starts, goes before all ordinary ones
// (SCHED_RR, sched(7)).  It needs little of a processor; and of the pages that
// the kernel keeps back for itself it may have a part: those of sockets, pipes,
// requests, files in /run (ALLOC_MIN_RESERVE in mm/page_alloc.c).
Status RunFirst();

// Until it is closed everywhere the kernel refuses to hibernate, and offers it
// to nobody: there is secret memory (memfd_secret(2)).  Not open where the
// kernel knows none: before Linux 6.5, unless secretmem.enable=1 is said.
UniqueFd ForbidHibernation();

// One heap for all threads (mallopt(3)): what one frees is the next one's; and
// stacks that are enough for ours, as locked memory is there whole from the
// start.  Before there are threads.
void UseLittleMemory();

// From now on this process has mounts of its own, those that are there now, and
// gets no others: when it ends, it takes no file system away that lies on its
// own device.  REQUIRES: one thread.
Status LeaveMounts();
// Let a process whose root directory is `root` find `path` there too (bind).
// REQUIRES: LeaveMounts; nobody else sees it.
Status ShowIn(const std::string& root, const std::string& path);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_PROCESS_H_
