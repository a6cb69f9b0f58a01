#ifndef BOOTAGENT_FACTS_H_
#define BOOTAGENT_FACTS_H_

#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "bootagent/image_access.h"
#include "bootagent/job.h"
#include "bootagent/plan.h"

namespace bootstream {

// Everything that a plan needs to know of the disk, of this machine, and of
// `image` beyond its manifest: the chunks of its partition table are fetched
// (`known_servers`: ImageAccess).  Reads only.
Task<Result<Facts>> GatherFacts(const Job& job, const std::string& serial,
                                const ManifestFile& image, ImageAccess& access,
                                const std::vector<std::string>& known_servers);

}  // namespace bootstream

#endif  // BOOTAGENT_FACTS_H_
