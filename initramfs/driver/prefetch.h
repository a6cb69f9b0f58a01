#ifndef INITRAMFS_DRIVER_PREFETCH_H_
#define INITRAMFS_DRIVER_PREFETCH_H_

#include <cstdint>
#include <vector>

#include "initramfs/driver/engine.h"

namespace bootstream {

// Fetches what a watched boot of this image has read (the manifest's prefetch
// list), in the order in which it was read, ahead of the boot that reads it
// now.  Demand goes before it, everything else behind; until it has come,
// nothing is read ahead by guess.  One thread, the executor's.
class Prefetch {
 public:
  struct Options {
    bool off = false;
    uint32_t parallel_fetches = 64;
  };

  // `engine` must outlive the Prefetch, which must outlive what it fetches
  // (StreamEngine::Drain).
  Prefetch(StreamEngine& engine, Options options);

  void Start();
  // Take up no new chunk.
  void Stop() { next_ = order_.size(); }

 private:
  Task<void> Worker();

  StreamEngine& engine_;
  Options options_;
  std::vector<ImageChunk> order_;
  size_t next_ = 0;
  uint32_t running_ = 0;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_PREFETCH_H_
