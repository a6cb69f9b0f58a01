#ifndef INITRAMFS_KEEPER_KEEPER_H_
#define INITRAMFS_KEEPER_KEEPER_H_

#include <functional>
#include <string>

#include "initramfs/keeper/fd_store.h"

namespace bootstream {

// What the keeper does for its worker; see keeper.md.
struct KeeperHooks {
  // The worker's whole life, in a process of its own; its exit code.
  std::function<int(FdStore store)> work;
  // The first worker is serving, and says this.
  std::function<void(const std::string& line)> ready;
  // No worker was ever ready.  Called once, just before RunKeeper returns.
  std::function<void(const std::string& line, int exit_code)> failed;
  // A line for the log.  Must not block.
  std::function<void(const std::string& line)> log;
  // The worker gets SIGTERM when the keeper is killed; else it goes on alone.
  bool end_with_keeper = false;
};

// Start the worker, and the next one whenever it dies, and keep what it gives
// us (FdStore).  Returns, in the keeper only, when a worker ends in good order
// or the first one cannot begin: the exit code.  SIGTERM and SIGINT go to the
// worker.  REQUIRES: this process has one thread and no io_uring.
int RunKeeper(const KeeperHooks& hooks);

}  // namespace bootstream

#endif  // INITRAMFS_KEEPER_KEEPER_H_
