#ifndef BOOTAGENT_ROLLBACK_H_
#define BOOTAGENT_ROLLBACK_H_

#include <functional>
#include <optional>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "bootagent/job.h"
#include "bootagent/locate.h"

// Back to the source, whatever the migration has reached.  The mirror image of
// Migrate, and as resumable:
//
//   any -> rolling back -> (stub; exchange; anchor's chunk) -> parked
//       -> (source's tables, LBA 0 last)
//
// Exchange, not overwrite: what the target has at a place that goes back to the
// source moves to a free chunk of the region first, so that the target's chunks
// and map stay, parked.  A clean chunk is given up only where the region is
// full: it can be fetched again.

namespace bootstream {

struct RollbackOptions {
  // Only if the target has not come up in so many boots (IsGivenUp), or to
  // finish what was begun; else kRefused.
  std::optional<uint32_t> if_unhealthy;
  // Asked once, before a target that was armed is taken away.
  std::function<Status(const Superblock&)> confirm;
};

// kNotFound: there is no migration; kRefused: it was committed.
Task<Status> Rollback(const Job& job, const RollbackOptions& options);

}  // namespace bootstream

#endif  // BOOTAGENT_ROLLBACK_H_
