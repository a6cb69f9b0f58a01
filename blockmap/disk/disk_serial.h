#ifndef BLOCKMAP_DISK_DISK_SERIAL_H_
#define BLOCKMAP_DISK_DISK_SERIAL_H_

#include <string>

#include "blockmap/base/types.h"

namespace bootstream {

// The serial number that the kernel knows for the disk `path`, without outer
// blanks; empty if it has none or `path` is a plain file.  Source: sysfs,
// /sys/dev/block/MAJOR:MINOR/{serial,device/serial,device/vpd_pg80}.
std::string DiskSerial(const std::string& path);

// SHA-256 of it as DiskIdentity keeps it; zeroes if there is none.
Sha256 DiskSerialSha256(const std::string& path);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_DISK_SERIAL_H_
