#ifndef INITRAMFS_CLOSURE_CLOSURE_COMMAND_H_
#define INITRAMFS_CLOSURE_CLOSURE_COMMAND_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "initramfs/closure/boot_trees.h"
#include "initramfs/driver/control_client.h"

namespace bootstream {

// `streamctl closure`: everything that the boot loader will read at the next
// boot comes home (design invariant 7).  GRUB's own code reads it, from a
// device that brings home what is read (boot_view.h), while the file systems
// stand still: what is on the disk then is what GRUB will find.  Blocking; as
// root.
class ClosureCommand {
 public:
  // Adds itself to `app`, and is not moved then.
  explicit ClosureCommand(CLI::App& app);
  ClosureCommand(const ClosureCommand&) = delete;
  ClosureCommand& operator=(const ClosureCommand&) = delete;

  // After `app` was parsed: do what was asked for; the exit code.  nullopt:
  // another command was.
  std::optional<int> Run(ControlClient& client);
  // Whether it was asked for, and no driver is no trouble.
  bool may_lack_driver() const { return *closure_ && if_streamed_; }
  // `streamctl start-kept-kernel`, which the last of the shutdown runs; nullopt:
  // something else was asked for.
  std::optional<int> Restart() const;

  // Whether the boot loader finds everything on the raw disk as it is now.
  // kCorrupt: it does not.
  Status Look(ControlClient& client) const;

 private:
  Status Compare(ControlClient& client,
                 std::optional<uint64_t> bring_for_ms) const;
  Result<std::vector<BootTree>> Trees() const;

  int BringHome(ControlClient& client) const;
  // The same; what did not come in time comes after a restart into the running
  // kernel.
  int BringHomeOrKeepKernel(ControlClient& client) const;

  CLI::App* closure_;
  CLI::App* start_kept_;
  double patience_seconds_ = 60;
  bool no_freeze_ = false;
  bool or_keep_kernel_ = false;
  bool if_streamed_ = false;
  std::string root_ = "/";
  std::vector<std::string> partitions_;
  std::string lock_ = "/run/bootstream/closure.lock";
};

}  // namespace bootstream

#endif  // INITRAMFS_CLOSURE_CLOSURE_COMMAND_H_
