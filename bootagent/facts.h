#ifndef BOOTAGENT_FACTS_H_
#define BOOTAGENT_FACTS_H_

#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "bootagent/job.h"
#include "bootagent/plan.h"

namespace bootstream {

// Everything a plan needs to know of the disk.  Reads only.
Task<Result<Facts>> GatherFacts(const Job& job, const std::string& serial,
                                uint64_t manifest_bytes);

}  // namespace bootstream

#endif  // BOOTAGENT_FACTS_H_
