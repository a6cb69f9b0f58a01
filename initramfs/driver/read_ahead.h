#ifndef INITRAMFS_DRIVER_READ_AHEAD_H_
#define INITRAMFS_DRIVER_READ_AHEAD_H_

#include <array>
#include <cstdint>
#include <optional>

#include "blockmap/image/manifest.h"

namespace bootstream {

// Guesses from what is read of an image what will be read next.  Reads that
// follow each other are a stream; the longer it goes on, the further ahead of
// it everything is to be fetched.  Several streams at once, requests of one
// that overtake each other, and reads in between that belong to none do no
// harm.  Pure; counted in chunks.  Compare Linux's mm/readahead.c.
class ReadAhead {
 public:
  static constexpr size_t kStreams = 8;
  static constexpr uint64_t kWindowMin = 4;

  // `window_max`: at most so many chunks ahead; 0: none at all.
  explicit ReadAhead(uint64_t window_max) : window_max_(window_max) {}

  // Chunks `first` to `last` are being read.  `missed`: something of them is
  // not local; no stream begins without that, for what is local has been
  // fetched by somebody who knew better.  What to fetch now, if anything; it
  // may reach beyond the end of the image.
  std::optional<ChunkExtent> Note(uint64_t first, uint64_t last, bool missed);

 private:
  struct Stream {
    uint64_t next = 0;     // the chunk behind the furthest read
    uint64_t fetched = 0;  // everything before has been asked for
    uint64_t window = 0;   // 0: not known to be a stream yet
    uint64_t last_use = 0;
  };
  Stream* Find(uint64_t first, uint64_t last);
  void Begin(uint64_t last);

  uint64_t window_max_;
  uint64_t uses_ = 0;
  std::array<Stream, kStreams> streams_{};
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_READ_AHEAD_H_
