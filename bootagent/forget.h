#ifndef BOOTAGENT_FORGET_H_
#define BOOTAGENT_FORGET_H_

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "bootagent/job.h"

namespace bootstream {

// Give up what lies in the region of a parked migration, or of one that has not
// touched the source yet, and remove the region file from the source's file
// system.  A region file without a migration is removed as well.  kRefused: the
// migration is under way, roll it back first.
Task<Status> Forget(const Job& job);

}  // namespace bootstream

#endif  // BOOTAGENT_FORGET_H_
