#ifndef TESTS_CRASH_RESUME_WORKLOAD_H_
#define TESTS_CRASH_RESUME_WORKLOAD_H_

#include <memory>
#include <vector>

#include "tests/crash/workload.h"

namespace bootstream {

// A power cut during recovery from a power cut: one state that `first` may be
// left in is drawn; its recovery is what runs, and what it has promised still
// holds.
class ResumeWorkload final : public Workload {
 public:
  ResumeWorkload(std::unique_ptr<Workload> first, uint64_t seed);

  std::vector<std::byte> Base() override { return base_; }
  std::vector<std::byte> Origin() override { return first_->Origin(); }
  std::string Run(RecordingDevice& device) override;
  Tally TallyOf(std::span<const std::byte> base,
                const Recording& recording) const override;
  std::string Recover(BlockDevice& device, const Cut& cut) override;
  std::string Check(ScratchDisk& disk, const Cut& cut) override;

 private:
  // The first cut as it is seen from the second.
  Cut Inner(const Cut& cut) const;

  std::unique_ptr<Workload> first_;
  std::vector<std::byte> base_;
  Cut first_cut_;
  std::string wrong_;
};

}  // namespace bootstream

#endif  // TESTS_CRASH_RESUME_WORKLOAD_H_
