#include "tests/crash/stream_workload.h"

#include <cstring>
#include <random>

#include "tests/crash/map_tally.h"

namespace bootstream {
namespace {

constexpr uint32_t kChunk = Scene::kChunk;

// With nothing written.
StreamSession::Options ToLook() {
  StreamSession::Options options;
  options.read_only = true;
  return options;
}

bool Same(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string Because(const char* what, const Error& error) {
  return std::string(what) + ": " + error.message;
}

}  // namespace

StreamWorkload::StreamWorkload(std::shared_ptr<const Scene> scene,
                               StreamWorkloadOptions options, uint64_t seed)
    : scene_(std::move(scene)),
      options_(std::move(options)),
      seed_(seed),
      model_(scene_->image) {}

std::string StreamWorkload::Run(RecordingDevice& device) {
  auto session = StreamSession::Open(device, scene_->image, {});
  if (!session) return Because("open", session.error());
  StreamClient client(device, **session, model_, options_.client, seed_);
  auto wrong = client.Run();
  requests_ = client.tally();
  give_up_begun_ = client.give_up_begun();
  given_up_ = client.given_up();
  return wrong;
}

Tally StreamWorkload::TallyOf(std::span<const std::byte> base,
                              const Recording& recording) const {
  Tally tally = TallyOfMap(base, recording, *scene_);
  tally.insert(requests_.begin(), requests_.end());
  return tally;
}

// The source is whole until it is given up.
std::string StreamWorkload::CheckSource(const MapStore& store,
                                        const ScratchDisk& disk,
                                        const Cut& cut) const {
  if (store.superblock().committed) {
    const bool may_be = give_up_begun_ && *give_up_begun_ < cut.clock;
    return may_be ? "" : "the source is given up and nobody asked for that";
  }
  if (given_up_ && *given_up_ < cut.clock) {
    return "the source was given up and is there again";
  }
  return CheckSourceChunks(*scene_, store, disk);
}

std::string StreamWorkload::CheckMap(StreamSession& session,
                                     const ScratchDisk& disk,
                                     const Cut& cut) const {
  auto wrong = CheckSource(session.store(), disk, cut);
  if (wrong.empty())
    wrong = CheckCleanBlocks(*scene_, session.store(), disk.bytes());
  if (wrong.empty()) wrong = CheckOccupancy(session.store());
  if (wrong.empty()) wrong = CheckPinnedHome(*scene_, session.store());
  return wrong;
}

std::string StreamWorkload::LookAt(ScratchDisk& disk, const Cut& cut,
                                   std::vector<std::byte>& image) {
  auto session = StreamSession::Open(disk, scene_->image, ToLook());
  if (!session) return Because("open to look", session.error());
  auto wrong = CheckMap(**session, disk, cut);
  if (wrong.empty()) {
    wrong = CheckBootSetHome(*scene_, model_, disk.bytes(), cut);
  }
  if (!wrong.empty()) return wrong;
  auto content = (*session)->ReadAll();
  if (!content) return Because("read", content.error());
  image = std::move(*content);
  return model_.Check(0, image, cut.clock, cut.torn);
}

// Read all, or let backfill come first; in the end what can be there is.
std::string StreamWorkload::BringIn(StreamSession& session, const Cut& cut) {
  if (cut.choice % 2 == 0) {
    std::string wrong;
    const Status status = session.ReadEach([&](uint64_t at, DiskBytes) {
      if (!session.engine().IsMissing(ImageChunk{at / kChunk})) return;
      if (options_.client.gives_up_for_room) return;  // nothing clean is left
      wrong = "image chunk " + std::to_string(at / kChunk) +
              " was read and is not stored";
    });
    if (!status) return Because("read", status.error());
    if (!wrong.empty()) return wrong;
  }
  const auto state = session.BackfillToEnd();
  if (options_.is_roomy && state != Backfill::State::kComplete) {
    return "backfill ends as " + std::string(BackfillStateName(state));
  }
  const Status drained = session.Finish(session.engine().Drain());
  return drained ? "" : Because("drain", drained.error());
}

std::string StreamWorkload::Recover(BlockDevice& device, const Cut& cut) {
  auto session = StreamSession::Open(device, scene_->image, {});
  if (!session) return Because("open", session.error());
  auto wrong = BringIn(**session, cut);
  requests_ = {
      {"read-throughs", (*session)->engine().statistics().demand_misses}};
  return wrong;
}

// A few more writes, a flush, and all of it again after the next start.
std::string StreamWorkload::GoOn(ScratchDisk& disk, StreamSession& session,
                                 const Cut& cut,
                                 std::vector<std::byte>& image) {
  std::mt19937_64 random(cut.choice);
  const auto& chunks = options_.client.written_chunks;
  session.engine().RefuseWithoutRoom();
  for (int i = 0; i < 5; ++i) {
    const uint64_t chunk = chunks[random() % chunks.size()];
    const uint64_t at = std::max<uint64_t>(options_.client.table_bytes,
                                           chunk * kChunk + random() % kChunk);
    const uint64_t end = image.size() - options_.client.table_bytes;
    const uint64_t size =
        std::min<uint64_t>(1 + random() % 9000, kChunk - at % kChunk);
    if (at + size > end) continue;
    const std::vector<std::byte> data(size, static_cast<std::byte>(random()));
    const Status s = session.Finish(session.engine().Write(at, data, false));
    const bool no_room = !s && s.error().code == ErrorCode::kNoSpace;
    if (no_room && !options_.is_roomy) continue;  // nothing has changed
    std::memcpy(image.data() + at, data.data(), size);
    if (!s) return Because("write after recovery", s.error());
  }
  if (const Status s = session.Finish(session.engine().Flush()); !s) {
    return Because("flush after recovery", s.error());
  }
  auto again = StreamSession::Open(disk, scene_->image, ToLook());
  if (!again) return Because("open after recovery", again.error());
  const auto content = (*again)->ReadAll();
  if (!content) return Because("read after recovery", content.error());
  if (!Same(*content, image)) return "after recovery a write is lost";
  return CheckMap(**again, disk, cut);
}

std::string StreamWorkload::Check(ScratchDisk& disk, const Cut& cut) {
  std::vector<std::byte> before;
  if (auto wrong = LookAt(disk, cut, before); !wrong.empty()) return wrong;
  auto session = StreamSession::Open(disk, scene_->image, {});
  if (!session) return Because("open", session.error());
  if (auto wrong = BringIn(**session, cut); !wrong.empty()) return wrong;
  const auto after = (*session)->ReadAll();
  if (!after) return Because("read again", after.error());
  if (!Same(*after, before))
    return "recovery has changed what the target reads";
  auto wrong = CheckMap(**session, disk, cut);
  if (wrong.empty()) {
    wrong = CheckBootSetHome(*scene_, model_, disk.bytes(), cut);
  }
  if (!wrong.empty()) return "recovered: " + wrong;
  if (cut.choice % 3 != 0) return "";
  return GoOn(disk, **session, cut, before);
}

}  // namespace bootstream
