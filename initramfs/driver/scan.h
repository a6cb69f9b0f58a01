#ifndef INITRAMFS_DRIVER_SCAN_H_
#define INITRAMFS_DRIVER_SCAN_H_

#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/map/superblock.h"

namespace bootstream {

struct ScanResult {
  std::string disk;  // empty: no migration on any disk
  std::optional<Superblock> superblock;
  bool by_stub = false;
  bool leaving = false;  // all but gone (find_migration.h)
  std::vector<std::string> warnings;
};

// Look for a migration on `disks`, reading only.  A disk that cannot be opened
// is a warning; kRefused: migrations on two disks, or two on one.
Result<ScanResult> ScanDisks(const std::vector<std::string>& disks);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_SCAN_H_
