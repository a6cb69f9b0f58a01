#ifndef TESTS_CRASH_AGENT_WORKLOAD_H_
#define TESTS_CRASH_AGENT_WORKLOAD_H_

#include <memory>
#include <optional>
#include <vector>

#include "tests/crash/agent_run.h"
#include "tests/crash/agent_scene.h"
#include "tests/crash/disk_checks.h"
#include "tests/crash/map_tally.h"
#include "tests/crash/stream_session.h"
#include "tests/crash/workload.h"

namespace bootstream {

// One command of the agent.  After a power cut it goes on, or back: both must
// work wherever it was cut, except that from a rollback it only goes back.
class AgentWorkload final : public Workload {
 public:
  enum class Command { kLayDown, kMigrate, kRollback, kReturn };
  struct Options {
    Command command = Command::kMigrate;
    uint32_t batch_chunks = 4;
  };
  // `content`: what the target reads, before and after.
  AgentWorkload(Scene scene, std::vector<std::byte> content, Options options);

  std::vector<std::byte> Base() override { return scene_.disk; }
  std::string Run(RecordingDevice& device) override;
  Tally TallyOf(std::span<const std::byte> base,
                const Recording& recording) const override {
    return TallyOfMap(base, recording, scene_);
  }
  std::string Recover(BlockDevice& device, const Cut& cut) override;
  std::string Check(ScratchDisk& disk, const Cut& cut) override;

 private:
  enum class Starts { kSource, kStub, kTarget, kNothing };
  Starts WhoStarts(DiskBytes disk) const;
  Status RunCommand(BlockDevice& device) const;
  Result<std::optional<Superblock>> Find(BlockDevice& device) const;
  // As it was left, with nothing written.
  std::string LookAt(ScratchDisk& disk, const std::optional<Superblock>& found,
                     const Cut& cut) const;
  std::string LookInside(ScratchDisk& disk, const Superblock& superblock,
                         const Cut& cut) const;
  std::string OpenAndLook(ScratchDisk& disk, const Superblock& found,
                          const Cut& cut) const;
  std::string ReadTarget(StreamSession& session, const Cut& cut) const;
  bool GoesBack(const std::optional<Superblock>& found, const Cut& cut) const;
  Status GoOn(BlockDevice& device) const;
  std::string GoOnOrBack(BlockDevice& device,
                         const std::optional<Superblock>& found,
                         const Cut& cut) const;
  std::string CheckForward(ScratchDisk& disk, const Superblock& found,
                           const Cut& cut) const;
  std::string CheckBack(ScratchDisk& disk, const Superblock& found,
                        const Cut& cut) const;

  std::shared_ptr<const AgentScene> released_;
  Scene scene_;
  TargetModel model_;
  Options options_;
  AgentRun agent_;
};

}  // namespace bootstream

#endif  // TESTS_CRASH_AGENT_WORKLOAD_H_
