#ifndef BLOCKMAP_BASE_URING_BLOCK_DEVICE_H_
#define BLOCKMAP_BASE_URING_BLOCK_DEVICE_H_

#include <memory>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/io_loop.h"

namespace bootstream {

// The door to storage on an IoLoop: io_uring reads, writes and fdatasync.
class UringBlockDevice final : public BlockDevice {
 public:
  // `loop` must outlive the device.  Takes over an open descriptor (OpenDisk).
  static Result<std::unique_ptr<UringBlockDevice>> Adopt(IoLoop& loop,
                                                         UniqueFd fd);
  void Submit(IoRequest& request) override;
  uint64_t size_bytes() const override { return size_bytes_; }
  int fd() const { return fd_.get(); }

 private:
  // One request's way through the ring; reused.
  struct Flight : IoLoop::Operation {
    UringBlockDevice* device = nullptr;
    IoRequest* request = nullptr;
    uint64_t done = 0;
    bool by_hole = false;  // fallocate instead of a write
  };

  UringBlockDevice(IoLoop& loop, UniqueFd fd, uint64_t size_bytes)
      : loop_(loop), fd_(std::move(fd)), size_bytes_(size_bytes) {}
  void Start(Flight& flight);
  void Finish(Flight& flight, int result);

  IoLoop& loop_;
  UniqueFd fd_;
  uint64_t size_bytes_;
  bool holes_ = true;  // until the disk has refused one
  std::vector<std::unique_ptr<Flight>> flights_;
  std::vector<Flight*> idle_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_URING_BLOCK_DEVICE_H_
