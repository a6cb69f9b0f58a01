#ifndef TESTS_CRASH_MAP_TALLY_H_
#define TESTS_CRASH_MAP_TALLY_H_

#include <span>

#include "tests/crash/scene.h"
#include "tests/crash/workload.h"

namespace bootstream {

// What a run did to the map, counted from what it wrote, whoever wrote it:
// `base` is the disk before.
//
//   journal switches     a fresh journal was begun
//   checkpoints          a superblock names a new one
//   superblock moves, manifest moves
//   relocations          a source chunk was put aside
//   source chunks back   and came back to its place
//   moves home           an image chunk, from another place of the disk
//   downloads stored     blocks became valid and clean
//   evictions            a chunk gave up its place, and is the image's again
//   discards             a chunk became zero, and has no place
//   patches, patches merged
Tally TallyOfMap(std::span<const std::byte> base, const Recording& recording,
                 const Scene& scene);

}  // namespace bootstream

#endif  // TESTS_CRASH_MAP_TALLY_H_
