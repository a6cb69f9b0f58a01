#ifndef INITRAMFS_DRIVER_ENGINE_STATISTICS_H_
#define INITRAMFS_DRIVER_ENGINE_STATISTICS_H_

#include <cstdint>

namespace bootstream {

// What the engine has done since it started; blocks and chunks, not bytes.
struct EngineStatistics {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t demand_misses = 0;
  uint64_t demand_misses_stored_in_region = 0;  // not at home
  uint64_t prefetched_chunks = 0;               // every class but demand
  uint64_t answered_fetches = 0;                // of every class
  uint64_t evicted_chunks = 0;
  uint64_t healed_chunks = 0;  // clean, unreadable or rotten: fetched again
  uint64_t io_errors = 0;      // told to whoever asked
  uint64_t patches = 0;
  uint64_t intents = 0;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_ENGINE_STATISTICS_H_
