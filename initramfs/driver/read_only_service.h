#ifndef INITRAMFS_DRIVER_READ_ONLY_SERVICE_H_
#define INITRAMFS_DRIVER_READ_ONLY_SERVICE_H_

#include "blockmap/base/block_device.h"
#include "blockmap/base/block_service.h"

namespace bootstream {

// A BlockDevice for a front end, to be read only: writes, zeroes and discards
// are kRefused.  Any byte offset and length.  `device` must outlive it.
class ReadOnlyService final : public BlockService {
 public:
  explicit ReadOnlyService(BlockDevice& device) : device_(device) {}

  uint64_t size_bytes() const override { return device_.size_bytes(); }
  Task<Status> Read(uint64_t offset, std::span<std::byte> out) override;
  Task<Status> Write(uint64_t offset, std::span<const std::byte> data,
                     bool fua) override;
  Task<Status> Flush() override;
  Task<Status> Discard(uint64_t offset, uint64_t size) override;
  Task<Status> WriteZeroes(uint64_t offset, uint64_t size, bool fua) override;

 private:
  Task<Status> ReadUnaligned(uint64_t offset, std::span<std::byte> out);
  static Task<Status> Refuse();

  BlockDevice& device_;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_READ_ONLY_SERVICE_H_
