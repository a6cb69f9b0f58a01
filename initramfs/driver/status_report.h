#ifndef INITRAMFS_DRIVER_STATUS_REPORT_H_
#define INITRAMFS_DRIVER_STATUS_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "initramfs/driver/backfill.h"
#include "initramfs/driver/engine.h"
#include "initramfs/driver/health.h"
#include "initramfs/driver/settler.h"

namespace bootstream {

// Who and where this driver is; fixed after the start.
struct DriverIdentity {
  std::string disk;
  std::string frontend;
  std::string device;
  bool kept = false;      // there is a keeper
  unsigned restarts = 0;  // by it
};

// The status object of control.md.  `health` may be null, before the start.
nlohmann::json StatusReport(const DriverIdentity& identity,
                            const StreamEngine& engine,
                            const FetchStatistics& source,
                            const Backfill& backfill, const Settler& settler,
                            const BootHealth* health);

// What is not given up for room, so that the network can come back.
nlohmann::json RecoverySetReport(const StreamEngine& engine);

// [[offset, size], ...]: bytes of the image that may differ from it.
nlohmann::json DirtyExtents(const StreamEngine& engine);

// {"bytes", "extents"}: the sum of these and how many there are.
nlohmann::json CountChanges(const StreamEngine& engine);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_STATUS_REPORT_H_
