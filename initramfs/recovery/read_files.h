#ifndef INITRAMFS_RECOVERY_READ_FILES_H_
#define INITRAMFS_RECOVERY_READ_FILES_H_

#include <string>
#include <vector>

namespace bootstream {

// Read, and forget, all of the regular files that `paths` name in this
// process's root directory: patterns (glob(7)), links, and folders with what is
// below them but no other file system's.  What is missing, cannot be read or is
// something else is passed over.  Several threads; returns when all are read.
void ReadFiles(const std::vector<std::string>& paths);

}  // namespace bootstream

#endif  // INITRAMFS_RECOVERY_READ_FILES_H_
