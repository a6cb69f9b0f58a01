#ifndef TESTS_CRASH_STREAM_WORKLOAD_H_
#define TESTS_CRASH_STREAM_WORKLOAD_H_

#include <memory>
#include <optional>

#include "tests/crash/disk_checks.h"
#include "tests/crash/scene.h"
#include "tests/crash/stream_client.h"
#include "tests/crash/target_model.h"
#include "tests/crash/workload.h"

namespace bootstream {

struct StreamWorkloadOptions {
  StreamClientOptions client;
  // The region holds the whole image: nothing is ever refused for want of room.
  bool is_roomy = true;
};

// The driver core with a busy target on top of it.
class StreamWorkload final : public Workload {
 public:
  StreamWorkload(std::shared_ptr<const Scene> scene,
                 StreamWorkloadOptions options, uint64_t seed);

  std::vector<std::byte> Base() override { return scene_->disk; }
  std::string Run(RecordingDevice& device) override;
  Tally TallyOf(std::span<const std::byte> base,
                const Recording& recording) const override;
  std::string Recover(BlockDevice& device, const Cut& cut) override;
  std::string Check(ScratchDisk& disk, const Cut& cut) override;

 private:
  // As it was left, with nothing written; the whole image as it reads.
  std::string LookAt(ScratchDisk& disk, const Cut& cut,
                     std::vector<std::byte>& image);
  std::string CheckMap(StreamSession& session, const ScratchDisk& disk,
                       const Cut& cut) const;
  std::string CheckSource(const MapStore& store, const ScratchDisk& disk,
                          const Cut& cut) const;
  std::string BringIn(StreamSession& session, const Cut& cut);
  std::string GoOn(ScratchDisk& disk, StreamSession& session, const Cut& cut,
                   std::vector<std::byte>& image);

  std::shared_ptr<const Scene> scene_;
  StreamWorkloadOptions options_;
  uint64_t seed_;
  Tally requests_;  // what the client has asked for
  std::optional<uint64_t> give_up_begun_;
  std::optional<uint64_t> given_up_;
  TargetModel model_;
};

}  // namespace bootstream

#endif  // TESTS_CRASH_STREAM_WORKLOAD_H_
