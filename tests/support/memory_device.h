#ifndef TESTS_SUPPORT_MEMORY_DEVICE_H_
#define TESTS_SUPPORT_MEMORY_DEVICE_H_

#include <span>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/types.h"

namespace bootstream {

// A disk in memory; everything completes inside Submit.
class MemoryDevice final : public BlockDevice {
 public:
  explicit MemoryDevice(uint64_t size_bytes) : bytes_(size_bytes) {}
  explicit MemoryDevice(std::vector<std::byte> bytes)
      : bytes_(std::move(bytes)) {}

  void Submit(IoRequest& request) override;
  uint64_t size_bytes() const override { return bytes_.size(); }

  std::span<std::byte> bytes() { return bytes_; }
  uint64_t read_count() const { return read_count_; }
  uint64_t write_count() const { return write_count_; }
  uint64_t flush_count() const { return flush_count_; }

 private:
  std::vector<std::byte> bytes_;
  uint64_t read_count_ = 0;
  uint64_t write_count_ = 0;
  uint64_t flush_count_ = 0;
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_MEMORY_DEVICE_H_
