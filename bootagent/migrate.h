#ifndef BOOTAGENT_MIGRATE_H_
#define BOOTAGENT_MIGRATE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "bootagent/facts.h"
#include "bootagent/image_access.h"
#include "bootagent/job.h"
#include "bootagent/plan.h"
#include "bootagent/release.h"

// From a disk with an old system to an armed target, through the phases of
// design section 4:
//
//   none -Release-> released -Stage-> staged -Relocate-> relocated
//        -WriteStub-> stubbed -boot chunks home-> written -tables-> armed
//
// Each phase is recorded when everything it promises is durable, and each may
// be cut short anywhere and run again.  Up to `relocated` the source may run in
// between: what was done is then verified, and thrown away if anything differs.

namespace bootstream {

struct MigrateOptions {
  std::string image_name;
  std::string image_version;  // empty: the latest
  // Lower versions are refused, also one that is under way; 0: none.
  uint64_t min_version = 0;
  PlanOptions plan;
  MigrationStrings strings;
  std::string serial;  // for a disk file
  // Asked once, before anything is written to a disk without a migration.
  std::function<Status(const Plan&)> confirm;
  // Called when everything is prepared, before neither system can start: the
  // time to save boot variables.
  std::function<Status()> before_stub;
};

// kRefused: the disk, or what is under way on it, forbids it.  A disk that is
// armed already, or that the target runs from, is left as it is: OK.
// `access` is asked only for what is not on the disk yet.
Task<Status> Migrate(const Job& job, const MigrateOptions& options,
                     ImageAccess& access);

}  // namespace bootstream

#endif  // BOOTAGENT_MIGRATE_H_
