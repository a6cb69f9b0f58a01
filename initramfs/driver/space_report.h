#ifndef INITRAMFS_DRIVER_SPACE_REPORT_H_
#define INITRAMFS_DRIVER_SPACE_REPORT_H_

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "blockmap/base/executor.h"
#include "initramfs/driver/engine.h"
#include "initramfs/driver/space_level.h"

namespace bootstream {

// A write that has waited for room so long waits for somebody to make it; less
// is what moves under way may take.
constexpr Executor::Duration kStuckAfter = std::chrono::seconds(1);

SpaceFacts GatherSpaceFacts(const StreamEngine& engine, Executor::Duration now,
                            bool source_attached);
// "space" in the status object of control.md.
nlohmann::json SpaceReport(const SpaceFacts& facts, const StreamEngine& engine);

// Says the sentence once when the level gets worse than it was since it was
// last ok.
class SpaceWarnings {
 public:
  using Say = std::function<void(const std::string&)>;
  explicit SpaceWarnings(Say say) : say_(std::move(say)) {}
  void Look(const SpaceFacts& facts);

 private:
  Say say_;
  SpaceLevel said_ = SpaceLevel::kOk;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_SPACE_REPORT_H_
