#ifndef TESTS_CRASH_STREAM_PHASES_H_
#define TESTS_CRASH_STREAM_PHASES_H_

#include <vector>

#include "tests/crash/workload.h"

namespace bootstream {

// The driver core's phases, over small scenes:
//   stream         room for everything; all kinds of requests, backfill
//   stream-full    a region that cannot hold the image: evictions
//   stream-pinned  mostly writes to pinned chunks, whose homes are the source's
//   commit         the same in a small region, and the source is given up
//   settle         everything comes home under a busy target, and the map
//   leaves metadata       a short journal: checkpoints, moves of all metadata,
//   anchor
// Each round has a new scene.  `operations`: requests in a run.
std::vector<PhaseOfLife> StreamPhases(uint64_t operations);

}  // namespace bootstream

#endif  // TESTS_CRASH_STREAM_PHASES_H_
