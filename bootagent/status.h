#ifndef BOOTAGENT_STATUS_H_
#define BOOTAGENT_STATUS_H_

#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "bootagent/job.h"

namespace bootstream {

// What is on the disk, for people or as one line of JSON:
//   {"disk", "phase": "none" | PhaseName, "found_by", "image": {...},
//    "region": [{"first", "count"}], "relocations": [{"source", "now"}], ...}
// Reads only.
Task<Result<std::string>> StatusText(const Job& job);
Task<Result<std::string>> StatusJson(const Job& job);

// Compare what lies in the region with what it should be: the map agrees with
// itself (opening it checks that), clean chunks match the manifest's digests,
// relocated chunks of the source can be read.  A report for people; kCorrupt,
// with the report as its message, if anything is wrong.  Boot chunks at home in
// an armed disk may differ: firmware and boot loader write there.
Task<Result<std::string>> CheckMigration(const Job& job);

}  // namespace bootstream

#endif  // BOOTAGENT_STATUS_H_
