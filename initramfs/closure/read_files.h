#ifndef INITRAMFS_CLOSURE_READ_FILES_H_
#define INITRAMFS_CLOSURE_READ_FILES_H_

#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "initramfs/system/run_program.h"

namespace bootstream {

// Read files, and directories with all below them, so that they are in memory.
// A child does it, which waits where the server is away, and is left behind.
// kUnavailable: not everything was read by `deadline`, or could be.  Blocking;
// for a process without other threads.
Status ReadFiles(const std::vector<std::string>& paths, Deadline deadline);

}  // namespace bootstream

#endif  // INITRAMFS_CLOSURE_READ_FILES_H_
