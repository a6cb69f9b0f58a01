#ifndef TESTS_CRASH_GROW_WORKLOAD_H_
#define TESTS_CRASH_GROW_WORKLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/crash/disk_checks.h"
#include "tests/crash/workload.h"

namespace bootstream {

// The driver has left, and the GPT of an image grows to the disk.  Whenever the
// power fails, the first copy is a whole table, the old one or the new one, a
// whole second copy at the disk's end is one of them too, nothing but the table
// was written, and growing again leads to the same disk.  How much larger the
// disk is and what else the table has is drawn.
class GrowWorkload final : public Workload {
 public:
  explicit GrowWorkload(uint64_t seed);

  std::vector<std::byte> Base() override { return base_; }
  std::string Run(RecordingDevice& device) override;
  Tally TallyOf(std::span<const std::byte> base,
                const Recording& recording) const override;
  std::string Recover(BlockDevice& device, const Cut& cut) override;
  std::string Check(ScratchDisk& disk, const Cut& cut) override;

 private:
  struct Part {
    uint64_t first = 0;  // sectors
    uint64_t last = 0;
  };
  void PutTable(uint64_t own, uint64_t other, uint64_t entries_lba);
  std::string CheckUntouched(DiskBytes disk) const;
  std::string CheckCopy(BlockDevice& disk, uint64_t lba, bool must_be,
                        bool must_be_new) const;

  uint64_t image_sectors_ = 0;
  uint64_t disk_sectors_ = 0;
  uint32_t entry_count_ = 128;
  uint32_t grown_ = 0;  // index of the last partition's entry
  std::vector<Part> parts_;
  std::vector<std::byte> base_;
  std::vector<std::byte> wanted_;
  std::string wrong_base_;
  uint64_t done_ = 0;  // clock
};

}  // namespace bootstream

#endif  // TESTS_CRASH_GROW_WORKLOAD_H_
