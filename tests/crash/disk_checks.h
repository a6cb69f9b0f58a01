#ifndef TESTS_CRASH_DISK_CHECKS_H_
#define TESTS_CRASH_DISK_CHECKS_H_

#include <span>
#include <string>

#include "blockmap/map/map_store.h"
#include "tests/crash/scene.h"
#include "tests/crash/target_model.h"
#include "tests/crash/workload.h"

// Invariants that can be seen on a disk and its map.  Each answers with what is
// wrong, or nothing.

namespace bootstream {

using DiskBytes = std::span<const std::byte>;

bool InRegion(const Scene& scene, uint64_t chunk);

// 1: each chunk that the source has not given up is in its place, or where the
// map says that its copy is.
std::string CheckSourceChunks(const Scene& scene, const MapStore& store,
                              const ScratchDisk& disk);
// 1, when the source may start: all of it is in its place.
std::string CheckSourceInPlace(const Scene& scene, const ScratchDisk& disk);
// 2: what the map calls valid and clean is the image's.
std::string CheckCleanBlocks(const Scene& scene, const MapStore& store,
                             DiskBytes disk);
// 5: no disk chunk has two users, and all that are used are ours.
std::string CheckOccupancy(const MapStore& store);
// 7: what the target has written to a pinned chunk is at home.
std::string CheckPinnedHome(const Scene& scene, const MapStore& store);
// 7: the boot set, raw and at home, is what the target may read.
std::string CheckBootSetHome(const Scene& scene, const TargetModel& model,
                             DiskBytes disk, const Cut& cut);

}  // namespace bootstream

#endif  // TESTS_CRASH_DISK_CHECKS_H_
