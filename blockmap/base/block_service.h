#ifndef BLOCKMAP_BASE_BLOCK_SERVICE_H_
#define BLOCKMAP_BASE_BLOCK_SERVICE_H_

#include <cstdint>
#include <span>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"

namespace bootstream {

// What a front end (NBD, ublk, FUSE) offers to its clients: a block device of
// any byte offset and length.  One thread; many calls may be under way at once.
// Buffers that start on a 4 KiB boundary and ranges of whole blocks are
// fastest.  An error of a Task means EIO for that request (kNoSpace: ENOSPC)
// and leaves everything else as it was.  REQUIRES: ranges lie inside
// size_bytes().
class BlockService {
 public:
  virtual ~BlockService() = default;
  virtual uint64_t size_bytes() const = 0;
  virtual Task<Status> Read(uint64_t offset, std::span<std::byte> out) = 0;
  // `fua`: durable before it returns.
  virtual Task<Status> Write(uint64_t offset, std::span<const std::byte> data,
                             bool fua) = 0;
  // Every write that returned before is durable when this returns.
  virtual Task<Status> Flush() = 0;
  // A hint: the range may read as zeroes, or as before, afterwards.
  virtual Task<Status> Discard(uint64_t offset, uint64_t size) = 0;
  virtual Task<Status> WriteZeroes(uint64_t offset, uint64_t size,
                                   bool fua) = 0;
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_BLOCK_SERVICE_H_
