#ifndef BOOTAGENT_RETURN_H_
#define BOOTAGENT_RETURN_H_

#include <functional>
#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "bootagent/image_access.h"
#include "bootagent/job.h"

// The way back to a target that was parked by Rollback, with all that it wrote:
//
//   parked -> released -> (as a migration, see migrate.h) -> armed or complete
//
// The source has run meanwhile and is taken as it is now.  What the target had
// on the disk stays as the target left it, boot set and partition tables too;
// only what is missing of the boot set is fetched again.  Cut short anywhere,
// Return or Migrate goes on, and the target's data is never thrown away, even
// if the source has run in between; Rollback parks it again.

namespace bootstream {

struct ReturnOptions {
  std::string serial;  // for a disk file
  // Asked once, before a parked target is taken up.
  std::function<Status(const Superblock&)> confirm;
  // As in MigrateOptions.
  std::function<Status()> before_stub;
};

// A target that is armed already, or runs from the disk, is left as it is: OK.
// kNotFound: nothing is parked here; kRefused: something else is under way, or
// the source forbids it (TakeSourceAnew); kNoSpace: there is no room to put the
// source's chunks aside.  `access` is asked only for what is missing.
Task<Status> Return(const Job& job, const ReturnOptions& options,
                    ImageAccess& access);

}  // namespace bootstream

#endif  // BOOTAGENT_RETURN_H_
