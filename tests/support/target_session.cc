#include "tests/support/target_session.h"

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#include "bootagent/job.h"

namespace bootstream {
namespace {

void Must(const Status& status, const char* what) {
  if (status) return;
  std::fprintf(stderr, "target: %s: %s\n", what,
               status.error().message.c_str());
  std::abort();
}

template <typename T>
T MustGet(Result<T> result, const char* what) {
  if (!result) Must(result.error(), what);
  return std::move(*result);
}

OpenedMigration OpenArmed(BlockDevice& device, const std::string& path) {
  StopPoints stops;
  Progress progress(stderr, Progress::Style::kSilent);
  const Job job{path, device, {}, stops, progress, 32};
  const auto located = MustGet(RunInline(Locate(job)), "locate");
  if (!located.superblock || located.superblock->phase < Phase::kArmed ||
      located.superblock->phase > Phase::kComplete) {
    Must(Error{ErrorCode::kRefused,
               "the disk is not armed, but " +
                   (located.superblock
                        ? std::string(PhaseName(located.superblock->phase))
                        : "without a migration")},
         "boot");
  }
  return MustGet(RunInline(OpenMigration(job, *located.superblock, false)),
                 "open");
}

}  // namespace

TargetSession::TargetSession(BlockDevice& device, const std::string& path,
                             FakeChunkSource& source)
    : migration_(OpenArmed(device, path)) {
  const std::function<void(Superblock&)> stream = [](Superblock& superblock) {
    superblock.phase = Phase::kStreaming;
    ++superblock.boots_total;
  };
  Must(RunInline(store().UpdateSuperblock(stream)), "phase");
  engine_ = std::make_unique<StreamEngine>(executor_, device, store(), source,
                                           migration_.manifest,
                                           StreamEngine::Options{});
  engine_->RefuseWithoutRoom();
}

Status TargetSession::Finish(Task<Status> task) {
  std::optional<Status> done;
  const auto run = [](Task<Status> work,
                      std::optional<Status>& out) -> Task<void> {
    out = co_await work;
  };
  Spawn(run(std::move(task), done));
  while (!done) executor_.Advance(std::chrono::milliseconds(1));
  return *done;
}

void TargetSession::Run(Task<Status> task, const char* what) {
  Must(Finish(std::move(task)), what);
}

Status TargetSession::TryWrite(uint64_t offset,
                               std::span<const std::byte> data) {
  return Finish(engine_->Write(offset, data, false));
}

void TargetSession::Write(uint64_t offset, std::span<const std::byte> data) {
  Run(engine_->Write(offset, data, false), "write");
}

void TargetSession::Discard(uint64_t offset, uint64_t size) {
  Run(engine_->Discard(offset, size), "discard");
}

std::vector<std::byte> TargetSession::Read(uint64_t offset, uint64_t size) {
  std::vector<std::byte> out(size);
  Run(engine_->Read(offset, out), "read");
  return out;
}

void TargetSession::Shutdown() {
  Run(engine_->Flush(), "flush");
  Run(engine_->Drain(), "drain");
}

}  // namespace bootstream
