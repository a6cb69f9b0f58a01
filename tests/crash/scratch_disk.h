#ifndef TESTS_CRASH_SCRATCH_DISK_H_
#define TESTS_CRASH_SCRATCH_DISK_H_

#include <cstdint>
#include <span>
#include <vector>

#include "blockmap/base/block_device.h"

namespace bootstream {

// A disk in memory that goes back to what it was in microseconds: the pages
// that were written are copied back.  Everything completes inside Submit; a
// flush does nothing.
class ScratchDisk final : public BlockDevice {
 public:
  explicit ScratchDisk(std::vector<std::byte> bytes)
      : base_(std::move(bytes)),
        now_(base_),
        is_changed_(base_.size() / kPage + 1),
        is_written_(base_.size() / kPage + 1) {}
  // One that differs from `origin` already.
  ScratchDisk(std::vector<std::byte> bytes, std::span<const std::byte> origin);

  void Submit(IoRequest& request) override;
  uint64_t size_bytes() const override { return now_.size(); }

  std::span<const std::byte> bytes() const { return now_; }
  // As Reset will leave it.
  std::span<const std::byte> base() const { return base_; }

  void Put(uint64_t offset, std::span<const std::byte> data);
  // Whether some of the range may be other than it was at the beginning (or
  // in `origin`), now or in an earlier state.
  bool WasWritten(uint64_t offset, uint64_t size) const;
  // Undo everything since the last Keep.
  void Reset();
  void Keep();

 private:
  static constexpr uint64_t kPage = 4096;
  void CopyChanged(const std::vector<std::byte>& from,
                   std::vector<std::byte>& to);

  std::vector<std::byte> base_;
  std::vector<std::byte> now_;
  std::vector<bool> is_changed_;
  std::vector<bool> is_written_;
  std::vector<uint64_t> changed_;  // pages
};

}  // namespace bootstream

#endif  // TESTS_CRASH_SCRATCH_DISK_H_
