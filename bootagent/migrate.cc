#include "bootagent/migrate.h"

#include <algorithm>

#include "bootagent/kept_target.h"
#include "bootagent/locate.h"
#include "bootagent/stage.h"
#include "bootagent/tables.h"

namespace bootstream {
namespace {

// One migration under way, from an opened or new map to an armed disk.
class Migration {
 public:
  Migration(const Job& job, const MigrateOptions& options, ImageAccess& access)
      : job_(job), options_(options), access_(access) {}

  // No migration is on the disk: plan, ask, release, go on.
  Task<Status> Begin();
  // Take up what `located` leads to.
  Task<Status> Resume(const Located& located);

 private:
  using Confirm = std::function<Status(const Plan&)>;

  Task<Status> PlanAndRelease(const PlanOptions& options,
                              const MigrationStrings& strings,
                              const Confirm& confirm);
  Task<Status> ReleaseAnew();
  Task<Status> VerifySource(const Located& located);
  Task<Status> Advance();
  Task<Status> Record(Phase phase);
  Task<Status> Stage();
  Task<Status> RelocateOccupants();
  Task<Status> Stub();
  Task<Status> Anchor();
  Task<Status> BringHome();
  Task<Status> Exchange(std::span<const ImageMove> moves);
  Status CheckSameImage() const;

  Phase phase() const { return store_->superblock().phase; }

  const Job& job_;
  const MigrateOptions& options_;
  ImageAccess& access_;
  ManifestFile image_;
  std::unique_ptr<MapStore> store_;
};

Task<Status> Migration::Begin() {
  auto image = co_await access_.FetchManifest();
  if (!image) co_return image.error();
  image_ = std::move(*image);
  auto s = co_await PlanAndRelease(options_.plan, options_.strings,
                                   options_.confirm);
  if (!s) co_return s;
  co_return co_await Advance();
}

Task<Status> Migration::PlanAndRelease(const PlanOptions& options,
                                       const MigrationStrings& strings,
                                       const Confirm& confirm) {
  const auto facts = co_await GatherFacts(job_, options_.serial, image_,
                                          access_, strings.servers);
  if (!facts) co_return facts.error();
  const auto plan = MakePlan(*facts, *image_.manifest, options);
  if (!plan) co_return plan.error();
  if (confirm) {
    if (auto s = confirm(*plan); !s) co_return s;
  }
  auto store = co_await Release(job_, *plan, image_, strings);
  if (!store) co_return store.error();
  store_ = std::move(*store);
  co_return OkStatus();
}

Status Migration::CheckSameImage() const {
  const ManifestContent& content = image_.manifest->content();
  const bool same_name =
      options_.image_name.empty() || options_.image_name == content.name;
  const bool same_version = options_.image_version.empty() ||
                            options_.image_version == content.version;
  if (image_.manifest->version() < options_.min_version) {
    return Error{ErrorCode::kRefused,
                 "the disk is on its way to " + content.name + " " +
                     content.version +
                     ", which is older than the lowest version that is "
                     "allowed; roll it back"};
  }
  if (same_name && same_version) return OkStatus();
  return Error{ErrorCode::kRefused, "the disk is on its way to " +
                                        content.name + " " + content.version +
                                        "; finish that, or roll it back"};
}

Task<Status> Migration::Resume(const Located& located) {
  auto opened =
      co_await OpenMigration(job_, *located.superblock, /*read_only=*/false);
  if (!opened) co_return opened.error();
  image_ = {opened->manifest, std::move(opened->manifest_file)};
  store_ = std::move(opened->store);
  if (auto s = CheckSameImage(); !s) co_return s;
  if (phase() <= Phase::kRelocated) {
    if (auto s = co_await VerifySource(located); !s) co_return s;
  }
  co_return co_await Advance();
}

// Nothing that was done before the stub stands is trusted: the source may have
// run since.
Task<Status> Migration::VerifySource(const Located& located) {
  std::vector<ByteExtent> ours;
  if (located.by == Located::By::kStub) {
    const auto source = co_await ReadSourceTable(job_, *store_);
    if (!source) co_return source.error();
    ours = SourceTableSectors(*source);
  }
  const auto untouched = co_await SourceIsUntouched(job_, *store_, ours);
  if (!untouched) co_return untouched.error();
  if (*untouched) co_return OkStatus();
  auto s = co_await RestoreSourceTable(job_, *store_, ours);
  if (!s) co_return s;
  if (store_->superblock().keep_target) {
    co_return co_await TakeSourceAnew(job_, options_.serial, *store_);
  }
  co_return co_await ReleaseAnew();
}

// From the beginning, with what was decided before and the image that is
// pinned.
Task<Status> Migration::ReleaseAnew() {
  const Superblock before = store_->superblock();
  store_.reset();
  PlanOptions options = options_.plan;
  if (options.when_full == WhenFull::kUnset && !before.guaranteed) {
    options.when_full = before.give_up_source_when_full
                            ? WhenFull::kGiveUpSource
                            : WhenFull::kBlock;
  }
  const auto table = co_await ReadPartitionTable(job_.device);
  if (!table) co_return table.error();
  for (const Partition& partition : table->partitions) {
    if (partition.extent.offset == before.source_fs_offset) {
      options.region_partition = partition.number;
    }
  }
  const MigrationStrings strings{before.server_urls, before.network};
  const Confirm unasked;
  co_return co_await PlanAndRelease(options, strings, unasked);
}

Task<Status> Migration::Record(Phase phase) {
  auto s = co_await store_->UpdateSuperblock(
      [phase](Superblock& superblock) { superblock.phase = phase; });
  if (!s) co_return s;
  co_return job_.stops.Reach(PhaseName(phase));
}

Task<Status> Migration::Advance() {
  Status s;
  if (s && phase() == Phase::kReleased) s = co_await Stage();
  if (s && phase() == Phase::kStaged) s = co_await RelocateOccupants();
  if (s && phase() == Phase::kRelocated) s = co_await Stub();
  if (s && phase() == Phase::kStubbed) {
    s = co_await Anchor();
    if (s) s = co_await BringHome();
  }
  if (s && phase() == Phase::kWritten) {
    s = co_await WriteTargetTables(job_, *store_, *image_.manifest);
    if (s) s = co_await Record(Phase::kArmed);
    // What was complete before it was parked needs no network to boot.
    const bool whole = store_->superblock().keep_target &&
                       IsWhole(*image_.manifest, store_->map());
    if (s && whole) s = co_await Record(Phase::kComplete);
  }
  co_return s;
}

Task<Status> Migration::Stage() {
  if (store_->superblock().keep_target) {
    auto s = co_await PrepareHomes(job_, *store_, *image_.manifest);
    if (!s) co_return s;
  }
  const auto missing = ChunksToStage(*image_.manifest, store_->map());
  // A target that is wholly there needs no server.
  ChunkSource* source = nullptr;
  if (!std::ranges::all_of(missing, [this](ImageChunk chunk) {
        return image_.manifest->IsZero(chunk);
      })) {
    const auto opened =
        access_.Source(image_.manifest, store_->superblock().server_urls);
    if (!opened) co_return opened.error();
    source = *opened;
  }
  auto s =
      co_await StageChunks(job_, *store_, *image_.manifest, missing, source);
  if (!s) co_return s;
  co_return co_await Record(Phase::kStaged);
}

Task<Status> Migration::RelocateOccupants() {
  const auto in_the_way =
      co_await OccupantsInTheWay(job_, *store_, *image_.manifest);
  if (!in_the_way) co_return in_the_way.error();
  std::vector<DiskChunk> chunks = in_the_way->first;
  chunks.insert(chunks.end(), in_the_way->homes.begin(),
                in_the_way->homes.end());
  if (store_->superblock().keep_target) {
    auto s = co_await MakeRoom(*store_, *image_.manifest, in_the_way->wanted(),
                               in_the_way->needed());
    if (!s) co_return s;
    const uint64_t room = store_->region().plain_available_count(true);
    // The others change places when the stub stands: see Exchange().
    if (room < chunks.size()) chunks.resize(room - 1);
  }
  std::ranges::sort(chunks);
  job_.progress.Start("relocate", chunks.size(), Progress::Unit::kItems);
  auto s =
      co_await Relocate(job_.device, *store_, chunks, job_.Mover("relocate"));
  if (!s && s.error().code == ErrorCode::kIo) {
    co_return Annotate(s.error(),
                       "what is in the way cannot be moved, and nothing of the "
                       "old system was changed");
  }
  if (!s) co_return s;
  job_.progress.Finish();
  co_return co_await Record(Phase::kRelocated);
}

Task<Status> Migration::Stub() {
  if (options_.before_stub) {
    if (auto s = options_.before_stub(); !s) co_return s;
  }
  const auto source = co_await ReadSourceTable(job_, *store_);
  if (!source) co_return source.error();
  auto sectors = SourceTableSectors(*source);
  sectors.pop_back();  // LBA 0 becomes the stub
  std::ranges::reverse(sectors);
  auto s = co_await WriteStub(job_, *store_, sectors, "source");
  if (!s) co_return s;
  co_return co_await Record(Phase::kStubbed);
}

// The anchor's place follows from the disk and the image, as in the plan.  That
// the superblock names it does not say that it was written: it comes first.
Task<Status> Migration::Anchor() {
  const auto offset = ChooseAnchor(store_->disk_grid(), *image_.manifest);
  if (!offset) co_return offset.error();
  if (auto s = co_await store_->WriteAnchor(*offset); !s) co_return s;
  co_return job_.stops.Reach("anchor");
}

Task<Status> Migration::BringHome() {
  const auto tables = TableChunks(*image_.manifest);
  std::vector<ImageMove> moves;
  std::vector<ImageMove> exchanges;
  for (const ImageChunk chunk : HomeChunks(*image_.manifest, store_->map())) {
    const Location location = store_->map().Get(chunk).location;
    const DiskChunk home = HomeOf(chunk);
    if (tables.contains(chunk) || location == Location::At(home)) continue;
    if (store_->superblock().keep_target && !store_->region().IsOurs(home)) {
      exchanges.push_back({chunk, home});
      continue;
    }
    // Reserved already where its occupant was relocated.
    if (store_->region().OccupantOf(home).use != ChunkUse::kReserved &&
        !store_->AllocateAt(home)) {
      co_return Error{ErrorCode::kCorrupt, "the home of boot chunk " +
                                               std::to_string(chunk.value) +
                                               " is not free"};
    }
    moves.push_back({chunk, home});
  }
  job_.progress.Start("write", moves.size() + 2 * exchanges.size(),
                      Progress::Unit::kItems);
  auto s =
      co_await MoveImageChunks(job_.device, *store_, moves, job_.Mover("home"));
  if (s) s = co_await Exchange(exchanges);
  if (s) s = co_await WriteAroundTables(job_, *store_, *image_.manifest);
  if (!s) co_return s;
  job_.progress.Finish();
  co_return co_await Record(Phase::kWritten);
}

// The region was too full to put these homes' occupants aside before the stub:
// now that every chunk that goes home leaves a free one behind, they follow.
Task<Status> Migration::Exchange(std::span<const ImageMove> moves) {
  const MoverOptions away = job_.Mover("exchange-away");
  const MoverOptions home = job_.Mover("exchange-home");
  for (size_t at = 0; at < moves.size();) {
    const uint64_t room = store_->region().plain_available_count(true);
    const auto batch = moves.subspan(
        at, std::min({uint64_t{job_.batch_chunks}, moves.size() - at,
                      std::max<uint64_t>(room, 1)}));
    std::vector<DiskChunk> homes;
    for (const ImageMove& move : batch) homes.push_back(move.to);
    auto s = co_await Relocate(job_.device, *store_, homes, away);
    if (s) s = co_await MoveImageChunks(job_.device, *store_, batch, home);
    if (!s) co_return s;
    at += batch.size();
  }
  co_return OkStatus();
}

Error Refused(std::string message) {
  return Error{ErrorCode::kRefused, std::move(message)};
}

}  // namespace

Task<Status> Migrate(const Job& job, const MigrateOptions& options,
                     ImageAccess& access) {
  const auto located = co_await Locate(job);
  if (!located) co_return located.error();
  Migration migration(job, options, access);
  if (!located->superblock) co_return co_await migration.Begin();
  switch (located->superblock->phase) {
    case Phase::kRollingBack:
      co_return Refused(
          "a rollback is under way; bootagent rollback finishes it");
    case Phase::kParked:
      co_return Refused(
          "a target is parked on this disk; bootagent return brings it back, "
          "bootagent forget gives it up");
    default:
      co_return co_await migration.Resume(*located);
  }
}

}  // namespace bootstream
