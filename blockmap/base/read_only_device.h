#ifndef BLOCKMAP_BASE_READ_ONLY_DEVICE_H_
#define BLOCKMAP_BASE_READ_ONLY_DEVICE_H_

#include <cstdint>
#include <span>

#include "blockmap/base/block_device.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"

namespace bootstream {

// A disk that is put together from chunks as they are read.  A request goes
// through its chunks one after the other; a write is kRefused.
class ReadOnlyDevice : public BlockDevice {
 public:
  void Submit(IoRequest& request) final;
  uint64_t size_bytes() const final { return grid_.size_bytes; }

 protected:
  explicit ReadOnlyDevice(const Grid& grid) : grid_(grid) {}
  const Grid& grid() const { return grid_; }

 private:
  // Fill `out` from byte `offset` of a chunk, which it does not leave.
  virtual Task<Status> ReadInside(uint64_t chunk, uint64_t offset,
                                  std::span<std::byte> out) = 0;
  Task<void> Serve(IoRequest& request);

  const Grid grid_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_READ_ONLY_DEVICE_H_
