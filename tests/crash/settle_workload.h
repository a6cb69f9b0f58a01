#ifndef TESTS_CRASH_SETTLE_WORKLOAD_H_
#define TESTS_CRASH_SETTLE_WORKLOAD_H_

#include <memory>
#include <optional>

#include "tests/crash/disk_checks.h"
#include "tests/crash/scene.h"
#include "tests/crash/stream_client.h"
#include "tests/crash/target_model.h"
#include "tests/crash/workload.h"

namespace bootstream {

// The source is given up and the image complete: everything comes home under a
// busy target, and the map leaves the disk.
class SettleWorkload final : public Workload {
 public:
  SettleWorkload(std::shared_ptr<const Scene> scene,
                 StreamClientOptions options, uint64_t seed);

  std::vector<std::byte> Base() override { return base_; }
  std::string Run(RecordingDevice& device) override;
  Tally TallyOf(std::span<const std::byte> base,
                const Recording& recording) const override;
  std::string Recover(BlockDevice& device, const Cut& cut) override;
  std::string Check(ScratchDisk& disk, const Cut& cut) override;

 private:
  std::string CheckGone(const ScratchDisk& disk, const Cut& cut) const;
  std::string LookAt(ScratchDisk& disk, const Cut& cut,
                     std::vector<std::byte>& image) const;

  std::shared_ptr<const Scene> scene_;
  StreamClientOptions options_;
  uint64_t seed_;
  std::vector<std::byte> base_;
  std::string wrong_base_;
  TargetModel model_;
  Tally tally_;
  std::optional<uint64_t> leave_begun_;
  std::optional<uint64_t> left_;
};

}  // namespace bootstream

#endif  // TESTS_CRASH_SETTLE_WORKLOAD_H_
