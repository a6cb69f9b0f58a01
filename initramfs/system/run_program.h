#ifndef INITRAMFS_SYSTEM_RUN_PROGRAM_H_
#define INITRAMFS_SYSTEM_RUN_PROGRAM_H_

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

// Run a program of $PATH with our standard input and output, wait, and give its
// exit code; 128 and the signal's number if it was killed.  Ctrl-C ends the
// program, not us, as in system(3).  kNotFound: there is no such program.
Result<int> RunProgram(const std::vector<std::string>& command);

struct ProgramOutput {
  int exit_code = 0;   // as RunProgram's
  std::string output;  // what it has written, to either of its outputs
  std::string last_line() const;
};

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

// The same, with its output for us, at most a MiB of it, and no input.
// kUnavailable: it had not ended by `deadline`, and was killed; one that waits
// in the kernel for a disk may end later.
Result<ProgramOutput> RunForOutput(const std::vector<std::string>& command,
                                   Deadline deadline = std::nullopt);

// `work`'s exit code from a child of this process, which must have no other
// threads.  kUnavailable as above.
Result<int> RunInChild(const std::function<int()>& work, Deadline deadline);

}  // namespace bootstream

#endif  // INITRAMFS_SYSTEM_RUN_PROGRAM_H_
