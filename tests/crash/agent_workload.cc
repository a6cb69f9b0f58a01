#include "tests/crash/agent_workload.h"

#include <cstring>
#include <utility>

#include "blockmap/map/superblock.h"

namespace bootstream {
namespace {

std::string Because(const char* what, const Error& error) {
  return std::string(what) + ": " + error.message;
}

bool IsGoingBack(Phase phase) {
  return phase == Phase::kRollingBack || phase == Phase::kParked;
}

}  // namespace

AgentWorkload::AgentWorkload(Scene scene, std::vector<std::byte> content,
                             Options options)
    : released_(ReleasedScene()),
      scene_(std::move(scene)),
      model_(content),
      options_(options),
      agent_(scene_,
             options.command == Command::kLayDown ? released_->path_anew
                                                  : released_->path,
             options.batch_chunks) {}

std::string AgentWorkload::Run(RecordingDevice& device) {
  const Status status = RunCommand(device);
  return status ? "" : status.error().message;
}

Status AgentWorkload::RunCommand(BlockDevice& device) const {
  switch (options_.command) {
    case Command::kLayDown:
      return agent_.LayDown(device, released_->first);
    case Command::kMigrate:
      return agent_.Migrate(device);
    case Command::kReturn:
      return agent_.Return(device);
    case Command::kRollback:
      break;
  }
  return agent_.Rollback(device);
}

// Before a map is laid down, nothing may be there, or what a power cut has
// torn: the region file is tagged afterwards only.
Result<std::optional<Superblock>> AgentWorkload::Find(
    BlockDevice& device) const {
  auto found = agent_.Find(device);
  if (found) return std::optional<Superblock>(std::move(*found));
  const bool may_be_none = options_.command == Command::kLayDown &&
                           (found.error().code == ErrorCode::kNotFound ||
                            found.error().code == ErrorCode::kCorrupt);
  if (may_be_none) return std::optional<Superblock>();
  return found.error();
}

AgentWorkload::Starts AgentWorkload::WhoStarts(DiskBytes disk) const {
  const auto same = [&](const std::vector<std::byte>& other) {
    return std::memcmp(disk.data(), other.data(), kSectorBytes) == 0;
  };
  if (same(scene_.source)) return Starts::kSource;
  if (same(scene_.image)) return Starts::kTarget;
  return DecodeStub(disk.first(kSectorBytes)) ? Starts::kStub
                                              : Starts::kNothing;
}

std::string AgentWorkload::LookAt(ScratchDisk& disk,
                                  const std::optional<Superblock>& found,
                                  const Cut& cut) const {
  const Starts starts = WhoStarts(disk.bytes());
  std::string wrong;
  if (starts == Starts::kNothing) {
    wrong = "sector 0 is neither system's, and no stub";
  } else if (starts == Starts::kSource) {
    wrong = CheckSourceInPlace(scene_, disk);
  } else if (starts == Starts::kTarget) {
    wrong = CheckBootSetHome(scene_, model_, disk.bytes(), cut);
    if (wrong.empty() && found && found->phase < Phase::kWritten) {
      wrong = "the target may start, and the phase is " +
              std::string(PhaseName(found->phase));
    }
  }
  if (!wrong.empty() || !found) return wrong;
  return LookInside(disk, *found, cut);
}

std::string AgentWorkload::LookInside(ScratchDisk& disk,
                                      const Superblock& superblock,
                                      const Cut& cut) const {
  StreamSession::Options options;
  options.read_only = true;
  options.superblock = superblock;
  auto session = StreamSession::Open(disk, scene_.image, options);
  if (!session) return Because("open to look", session.error());
  MapStore& store = (*session)->store();
  auto wrong = CheckSourceChunks(scene_, store, disk);
  if (wrong.empty()) wrong = CheckCleanBlocks(scene_, store, disk.bytes());
  if (wrong.empty()) wrong = CheckOccupancy(store);
  if (!wrong.empty()) return wrong;
  return ReadTarget(**session, cut);
}

std::string AgentWorkload::ReadTarget(StreamSession& session,
                                      const Cut& cut) const {
  std::string wrong;
  const Status status =
      session.ReadEach([&](uint64_t at, std::span<const std::byte> content) {
        if (!wrong.empty()) return;
        wrong = model_.Check(at, content, cut.clock, cut.torn);
      });
  return status ? wrong : Because("read", status.error());
}

bool AgentWorkload::GoesBack(const std::optional<Superblock>& found,
                             const Cut& cut) const {
  if (cut.choice % 2 == 0) return true;
  // A target that is parked can return.
  const bool returns = options_.command == Command::kReturn;
  return found && IsGoingBack(found->phase) &&
         !(returns && found->phase == Phase::kParked);
}

std::string AgentWorkload::Recover(BlockDevice& device, const Cut& cut) {
  const auto found = Find(device);
  if (!found) return Because("find", found.error());
  return GoOnOrBack(device, *found, cut);
}

Status AgentWorkload::GoOn(BlockDevice& device) const {
  return options_.command == Command::kReturn ? agent_.Return(device)
                                              : agent_.Migrate(device);
}

std::string AgentWorkload::GoOnOrBack(BlockDevice& device,
                                      const std::optional<Superblock>& found,
                                      const Cut& cut) const {
  if (!found) {
    const Status again = agent_.LayDown(device, released_->first);
    if (!again) return Because("lay down again", again.error());
  }
  const bool back = GoesBack(found, cut);
  const Status status = back ? agent_.Rollback(device) : GoOn(device);
  if (status) return "";
  return Because(back ? "roll back" : "go on", status.error());
}

std::string AgentWorkload::CheckForward(ScratchDisk& disk,
                                        const Superblock& found,
                                        const Cut& cut) const {
  if (found.phase < Phase::kArmed ||
      WhoStarts(disk.bytes()) != Starts::kTarget) {
    return "it is only " + std::string(PhaseName(found.phase));
  }
  auto wrong = CheckBootSetHome(scene_, model_, disk.bytes(), cut);
  if (wrong.empty()) wrong = LookInside(disk, found, cut);
  if (!wrong.empty() || cut.choice % 8 != 1) return wrong;
  auto session = StreamSession::Open(disk, scene_.image, {});
  if (!session) return Because("start the driver", session.error());
  const auto state = (*session)->BackfillToEnd();
  if (state != Backfill::State::kComplete) return "backfill does not complete";
  return ReadTarget(**session, cut);
}

std::string AgentWorkload::CheckBack(ScratchDisk& disk, const Superblock& found,
                                     const Cut& cut) const {
  if (WhoStarts(disk.bytes()) != Starts::kSource) {
    return "the source does not start";
  }
  auto wrong = CheckSourceInPlace(scene_, disk);
  if (!wrong.empty()) return wrong;
  if (found.phase != Phase::kParked) {
    return "the phase is " + std::string(PhaseName(found.phase));
  }
  if (wrong = LookInside(disk, found, cut); !wrong.empty()) return wrong;
  if (cut.choice % 8 != 0) return "";
  const Status again = agent_.Rollback(disk);
  if (!again) return Because("roll back twice", again.error());
  return CheckSourceInPlace(scene_, disk);
}

// The next start opens the map, which mends it, and the power goes again.
std::string AgentWorkload::OpenAndLook(ScratchDisk& disk,
                                       const Superblock& found,
                                       const Cut& cut) const {
  StreamSession::Options options;
  options.starts = false;
  options.superblock = found;
  const auto session = StreamSession::Open(disk, scene_.image, options);
  if (!session) return Because("open", session.error());
  const auto after = Find(disk);
  if (!after) return Because("find when opened", after.error());
  const auto wrong = LookAt(disk, *after, cut);
  return wrong.empty() ? "" : "opened: " + wrong;
}

std::string AgentWorkload::Check(ScratchDisk& disk, const Cut& cut) {
  const auto before = Find(disk);
  if (!before) return Because("find", before.error());
  if (auto wrong = LookAt(disk, *before, cut); !wrong.empty()) return wrong;
  if (*before && cut.choice / 8 % 2 == 0) {
    auto wrong = OpenAndLook(disk, **before, cut);
    if (!wrong.empty()) return wrong;
  }
  const bool back = GoesBack(*before, cut);
  if (auto s = GoOnOrBack(disk, *before, cut); !s.empty()) return s;
  const char* way = back ? "gone back: " : "gone on: ";
  const auto after = agent_.Find(disk);
  if (!after) return Because(way, after.error());
  if (*before && after->migration_id != (*before)->migration_id) {
    return "it is another migration now";
  }
  const auto wrong =
      back ? CheckBack(disk, *after, cut) : CheckForward(disk, *after, cut);
  return wrong.empty() ? "" : way + wrong;
}

}  // namespace bootstream
