#ifndef BOOTAGENT_DISK_LOCK_H_
#define BOOTAGENT_DISK_LOCK_H_

#include <string>

#include "blockmap/base/posix_block_device.h"
#include "blockmap/base/result.h"

namespace bootstream {

// The disk that a command is for when none is named: the only internal one.
// kRefused names the choices.
Result<std::string> ChooseDisk(const std::string& named);

// Open the disk for ourselves alone: kRefused if anything of it is mounted or
// claimed, or another agent or driver holds it (flock; shared for reading).
Result<PosixBlockDevice> OpenLocked(const std::string& path, OpenMode mode);

}  // namespace bootstream

#endif  // BOOTAGENT_DISK_LOCK_H_
