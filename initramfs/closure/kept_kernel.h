#ifndef INITRAMFS_CLOSURE_KEPT_KERNEL_H_
#define INITRAMFS_CLOSURE_KEPT_KERNEL_H_

#include <string>

#include "blockmap/base/result.h"
#include "initramfs/system/run_program.h"

namespace bootstream {

// A way to restart that needs neither firmware nor boot loader, for when not all
// that they would read has come home: the running kernel and its initramfs are
// kept in memory and started again (kexec_file_load(2), reboot(2)).  Then the
// system is there, streamed as before, and what is missing can come.  Blocking;
// as root.
struct KernelFiles {
  std::string kernel;
  std::string initramfs;
  std::string command_line;
};

// Those of release `release` in /boot below `root`, to be started with
// `command_line` and `word`.  kNotFound.
Result<KernelFiles> FindKernel(const std::string& root,
                               const std::string& release,
                               const std::string& command_line,
                               const std::string& word);

// The running one, with `word` added to its command line; does nothing where a
// kernel is kept already.  kUnavailable: its files could not be read by
// `deadline`.
Status KeepKernel(const std::string& root, const std::string& word,
                  Deadline deadline);

// Restart into the kept kernel, at once, as reboot(2) does; returns only if that
// fails.
Status StartKeptKernel();

}  // namespace bootstream

#endif  // INITRAMFS_CLOSURE_KEPT_KERNEL_H_
