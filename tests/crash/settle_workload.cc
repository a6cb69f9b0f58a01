#include "tests/crash/settle_workload.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmap/disk/find_migration.h"
#include "blockmap/map/map_leave.h"
#include "initramfs/driver/settler.h"

namespace bootstream {
namespace {

constexpr uint32_t kChunk = Scene::kChunk;
constexpr int kSecondsMax = 1000;

std::string Because(const char* what, const Error& error) {
  return std::string(what) + ": " + error.message;
}

Result<FoundMigration> Find(BlockDevice& disk) {
  const Sha256 no_serial{};
  return RunInline(FindMigration(disk, no_serial));
}

bool IsSettled(const MapStore& store) {
  return store.superblock().phase == Phase::kSettled;
}

// Over a device that completes inside Submit.
std::string SettleToEnd(StreamSession& session) {
  Settler settler(session.executor(), session.engine(), session.store(), {});
  settler.Start();
  session.executor().RunReady();
  for (int i = 0; i < kSecondsMax && !IsSettled(session.store()); ++i) {
    session.executor().Advance(std::chrono::seconds(1));
  }
  Spawn(settler.Stop());
  session.executor().Advance(std::chrono::seconds(10));
  if (!IsSettled(session.store()))
    return "does not settle: " + settler.failure();
  return "";
}

std::string Leave(StreamSession& session) {
  const Status left = session.Finish(session.store().Leave());
  return left ? "" : Because("leave", left.error());
}

// What a settled map says of the raw disk is so.
std::string CheckRaw(const MapStore& store, DiskBytes disk,
                     const std::vector<std::byte>& image) {
  for (uint64_t at = 0; at < image.size(); at += kChunk) {
    const DiskChunk chunk{at / kChunk};
    if (store.region().OccupantOf(chunk).use == ChunkUse::kMetadata) continue;
    const uint64_t size = std::min<uint64_t>(kChunk, image.size() - at);
    if (std::memcmp(disk.data() + at, image.data() + at, size) != 0) {
      return "settled, and raw chunk " + std::to_string(chunk.value) +
             " is not what the target reads";
    }
  }
  return "";
}

}  // namespace

SettleWorkload::SettleWorkload(std::shared_ptr<const Scene> scene,
                               StreamClientOptions options, uint64_t seed)
    : scene_(std::move(scene)),
      options_(std::move(options)),
      seed_(seed),
      model_(scene_->image) {
  ScratchDisk disk(scene_->disk);
  auto session = StreamSession::Open(disk, scene_->image, {});
  if (!session) {
    wrong_base_ = Because("open", session.error());
    return;
  }
  const Status s = (*session)->Finish((*session)->engine().GiveUpSource());
  if (!s) wrong_base_ = Because("give up", s.error());
  if ((*session)->BackfillToEnd() != Backfill::State::kComplete) {
    wrong_base_ = "the image does not become complete";
  }
  (void)(*session)->Finish((*session)->engine().Drain());
  base_.assign(disk.bytes().begin(), disk.bytes().end());
}

std::string SettleWorkload::Run(RecordingDevice& device) {
  if (!wrong_base_.empty()) return wrong_base_;
  auto session = StreamSession::Open(device, scene_->image, {});
  if (!session) return Because("open", session.error());
  Settler settler((*session)->executor(), (*session)->engine(),
                  (*session)->store(), {.parallel_chunks = 2});
  settler.Start();
  StreamClient client(device, **session, model_, options_, seed_);
  auto wrong = client.Run();
  Spawn(settler.Stop());
  (*session)->executor().Advance(std::chrono::seconds(10));
  tally_ = client.tally();
  if (IsSettled((*session)->store())) ++tally_["settled under the client"];
  if (wrong.empty()) wrong = SettleToEnd(**session);
  leave_begun_ = device.clock();
  if (wrong.empty()) wrong = Leave(**session);
  left_ = device.clock();
  ++tally_["left"];
  return wrong;
}

Tally SettleWorkload::TallyOf(std::span<const std::byte>,
                              const Recording&) const {
  return tally_;
}

// Nothing of ours is there, and the raw disk is the image.
std::string SettleWorkload::CheckGone(const ScratchDisk& disk,
                                      const Cut& cut) const {
  if (!leave_begun_ || cut.clock < *leave_begun_) {
    return "the map has left, and nobody asked for that";
  }
  return model_.Check(0, disk.bytes().first(scene_->image.size()), cut.clock,
                      cut.torn);
}

std::string SettleWorkload::LookAt(ScratchDisk& disk, const Cut& cut,
                                   std::vector<std::byte>& image) const {
  if (left_ && *left_ < cut.clock) return "the map had left and is there again";
  StreamSession::Options options;
  options.read_only = true;
  auto session = StreamSession::Open(disk, scene_->image, options);
  if (!session) return Because("open to look", session.error());
  const MapStore& store = (*session)->store();
  auto wrong = CheckCleanBlocks(*scene_, store, disk.bytes());
  if (wrong.empty()) wrong = CheckOccupancy(store);
  if (wrong.empty()) wrong = CheckPinnedHome(*scene_, store);
  if (!wrong.empty()) return wrong;
  auto content = (*session)->ReadAll();
  if (!content) return Because("read", content.error());
  image = std::move(*content);
  wrong = model_.Check(0, image, cut.clock, cut.torn);
  if (wrong.empty() && IsSettled(store)) {
    // What was not flushed may be on the raw disk and not in the map yet.
    for (uint64_t at = 0; wrong.empty() && at < image.size(); at += kChunk) {
      const DiskChunk chunk{at / kChunk};
      if (store.region().OccupantOf(chunk).use == ChunkUse::kMetadata) continue;
      const uint64_t size = std::min<uint64_t>(kChunk, image.size() - at);
      wrong =
          model_.Check(at, disk.bytes().subspan(at, size), cut.clock, cut.torn);
      if (!wrong.empty()) wrong = "settled, raw: " + wrong;
    }
  }
  return wrong;
}

std::string SettleWorkload::Recover(BlockDevice& device, const Cut& cut) {
  auto found = Find(device);
  if (!found) return Because("find", found.error());
  if (found->leaving) {
    const Status s = RunInline(
        FinishLeaving(device, found->leaving->offset, found->leaving->anchor));
    return s ? "" : Because("finish leaving", s.error());
  }
  if (!found->superblock) return "";
  auto session = StreamSession::Open(device, scene_->image, {});
  if (!session) return Because("open", session.error());
  leave_begun_ = 0;  // by us, whatever the clock says
  auto wrong = SettleToEnd(**session);
  if (wrong.empty() && cut.choice % 3 != 0) wrong = Leave(**session);
  return wrong;
}

std::string SettleWorkload::Check(ScratchDisk& disk, const Cut& cut) {
  auto found = Find(disk);
  if (!found) return Because("find", found.error());
  if (found->leaving) {
    const Status s = RunInline(
        FinishLeaving(disk, found->leaving->offset, found->leaving->anchor));
    if (!s) return Because("finish leaving", s.error());
    found = Find(disk);
    if (!found) return Because("find again", found.error());
    if (found->leaving || found->superblock) return "it does not leave";
  }
  if (!found->superblock) return CheckGone(disk, cut);
  std::vector<std::byte> before;
  if (auto wrong = LookAt(disk, cut, before); !wrong.empty()) return wrong;
  // Settled already: it may leave before anybody reads.  A write that was never
  // flushed may show then.
  const bool settled = found->superblock->phase == Phase::kSettled;
  const bool at_once = settled && cut.choice % 2 == 0;
  StreamSession::Options options;
  options.starts = !at_once;
  auto session = StreamSession::Open(disk, scene_->image, options);
  if (!session) return Because("open", session.error());
  auto wrong = at_once ? "" : SettleToEnd(**session);
  if (wrong.empty() && !at_once) {
    wrong = CheckRaw((*session)->store(), disk.bytes(), before);
  }
  if (wrong.empty()) wrong = Leave(**session);
  if (!wrong.empty()) return "recovered: " + wrong;
  const auto raw = disk.bytes().first(scene_->image.size());
  wrong = model_.Check(0, raw, cut.clock, cut.torn);
  if (!wrong.empty()) return "recovered, raw: " + wrong;
  if (!at_once && !std::ranges::equal(raw, before)) {
    return "what the target reads has changed by leaving";
  }
  return "";
}

}  // namespace bootstream
