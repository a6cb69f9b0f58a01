#ifndef INITRAMFS_SOURCE_RUN_PROGRAM_H_
#define INITRAMFS_SOURCE_RUN_PROGRAM_H_

#include <string>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

enum class ProgramOutput { kOurs, kToStandardError };

// Run a program of $PATH with our standard input and output, wait, and give its
// exit code; 128 and the signal's number if it was killed.  Ctrl-C ends the
// program, not us, as in system(3).  kNotFound: there is no such program.
Result<int> RunProgram(const std::vector<std::string>& command,
                       ProgramOutput output = ProgramOutput::kOurs);

}  // namespace bootstream

#endif  // INITRAMFS_SOURCE_RUN_PROGRAM_H_
