#ifndef INITRAMFS_SYSTEM_READ_FILES_H_
#define INITRAMFS_SYSTEM_READ_FILES_H_

#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "initramfs/system/run_program.h"

namespace bootstream {

// Read, and forget, all of the regular files that `paths` name below `root`:
// patterns (glob(7)), links, and folders with what is below them but no other
// file system's.  What is missing, cannot be read or is something else is passed
// over.  A process of its own with several threads does it: one that waits in the
// kernel for the server cannot be interrupted; it is left behind, and ends when
// it can.  kUnavailable: not everything was read by `deadline`.  As root; for a
// process without other threads.
Status ReadFiles(const std::string& root, const std::vector<std::string>& paths,
                 Deadline deadline);

}  // namespace bootstream

#endif  // INITRAMFS_SYSTEM_READ_FILES_H_
