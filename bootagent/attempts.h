#ifndef BOOTAGENT_ATTEMPTS_H_
#define BOOTAGENT_ATTEMPTS_H_

#include <cstdint>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "bootagent/job.h"

// How often the target may try to come up for the first time (initramfs/
// health.md).  The driver counts the boots that reach it; a loader or kernel
// that never gets so far is counted by the agent, where that starts it.

namespace bootstream {

// Has a target that was never healthy used up `limit` boots and starts?
// 0: there is no limit.
bool IsGivenUp(const Superblock& superblock, uint32_t limit);

// The agent is about to start the target: make that durable.  Nothing is
// written for a target that has been healthy, or where there is none.
Task<Status> CountStart(const Job& job);

}  // namespace bootstream

#endif  // BOOTAGENT_ATTEMPTS_H_
