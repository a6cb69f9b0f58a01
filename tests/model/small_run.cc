#include "tests/model/small_run.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmap/disk/find_migration.h"
#include "blockmap/disk/mover.h"
#include "blockmap/image/manifest.h"

namespace bootstream {
namespace {

constexpr uint32_t kChunk = SmallDisk::kChunk;
// Time may pass so often while something else could happen as well.
constexpr int kTimersWhileBusy = 2;
// Numbers for the operations of one script.
constexpr size_t kNumbersEach = 6;
// Of what Finish does.
constexpr int kLastNumber = 31;
// So many waits for time alone are no progress.
constexpr int kTimersMax = 3000;

Result<std::unique_ptr<MapStore>> OpenMap(const SmallWorld& world,
                                          BlockDevice& disk) {
  auto found = RunInline(FindMigration(disk, Sha256{}));
  if (!found) return found.error();
  if (!found->superblock) {
    return Error{ErrorCode::kNotFound, "no anchor leads to a migration"};
  }
  return RunInline(MapStore::Open(disk, *found->superblock, world.Facts()));
}

}  // namespace

SmallRun::SmallRun(SmallWorld& world, const SmallWorld::Start& start,
                   const Scripts& scripts, CutsSeen& cuts)
    : world_(world),
      start_(start),
      cuts_(cuts),
      start_key_(std::hash<std::string>()(start.setup.name)),
      reference_(world.contents(), start.image),
      executor_(std::make_unique<TestExecutor>()),
      disk_(std::make_unique<ModelDisk>(start.disk)),
      source_(std::make_unique<FakeChunkSource>(world.image(), kChunk)) {
  for (const auto& operations : scripts) {
    scripts_.push_back(Script{operations});
  }
  auto store = OpenMap(world_, *disk_);
  if (!store) {
    Complain("cannot be opened: " + store.error().message);
    return;
  }
  store_ = std::move(*store);
  engine_ = std::make_unique<StreamEngine>(*executor_, *disk_, *store_,
                                           *source_, world_.manifest(),
                                           StreamEngine::Options{});
  engine_->RefuseWithoutRoom();  // an order ends in any case
  disk_->Hold();
  source_->Hold();
}

SmallRun::~SmallRun() {
  if (is_done()) return;
  // What waits for ever cannot be taken down.
  (void)engine_.release();
  (void)store_.release();
  (void)source_.release();
  (void)disk_.release();
  (void)executor_.release();
}

void SmallRun::Complain(std::string why) {
  if (violation_.empty()) violation_ = std::move(why);
}

bool SmallRun::is_done() const {
  if (engine_ == nullptr) return true;
  const bool idle = disk_->waiting_count() == 0 && source_->waiting().empty();
  return idle && std::ranges::all_of(scripts_, [](const Script& script) {
           return !script.running && script.next == script.operations.size();
         });
}

std::vector<size_t> SmallRun::StartableScripts() const {
  std::vector<size_t> found;
  for (size_t i = 0; i < scripts_.size(); ++i) {
    const Script& script = scripts_[i];
    if (!script.running && script.next < script.operations.size()) {
      found.push_back(i);
    }
  }
  return found;
}

bool SmallRun::MayFireTimer() const {
  if (!executor_->has_timers() || is_done()) return false;
  const bool busy = disk_->waiting_count() != 0 ||
                    !source_->waiting().empty() || !StartableScripts().empty();
  return timers_fired_ < (busy ? kTimersWhileBusy : kTimersMax);
}

size_t SmallRun::choice_count() const {
  if (engine_ == nullptr || is_done()) return 0;
  return disk_->waiting_count() + source_->waiting().size() +
         StartableScripts().size() + (MayFireTimer() ? 1 : 0);
}

std::string SmallRun::Describe(size_t choice) const {
  if (choice < disk_->waiting_count()) return disk_->Describe(choice);
  choice -= disk_->waiting_count();
  const auto replies = source_->waiting();
  if (choice < replies.size()) {
    return "chunk " + std::to_string(replies[choice].value) + " arrives";
  }
  choice -= replies.size();
  const auto startable = StartableScripts();
  if (choice >= startable.size()) return "time passes";
  const Script& script = scripts_[startable[choice]];
  return "begin " + script.operations[script.next]->name;
}

void SmallRun::Take(size_t choice) {
  const size_t requests = disk_->waiting_count();
  const auto replies = source_->waiting();
  const auto startable = StartableScripts();
  if (choice < requests) {
    disk_->Complete(choice);
  } else if (choice - requests < replies.size()) {
    source_->Complete(replies[choice - requests]);
  } else if (choice - requests - replies.size() < startable.size()) {
    const size_t which = startable[choice - requests - replies.size()];
    Script& script = scripts_[which];
    const auto number = static_cast<int>(which * kNumbersEach + script.next);
    const Operation& op = *script.operations[script.next++];
    script.running = true;
    Spawn(RunOperation(script, op, number));
  } else {
    ++timers_fired_;
    executor_->RunNextTimer();
  }
  executor_->RunReady();
}

Task<void> SmallRun::RunOperation(Script& script, const Operation& op,
                                  int number) {
  const Status status = co_await Do(op, number);
  if (!status && !MayFail(op, status.error())) {
    Complain(op.name + " failed: " + status.error().message);
  }
  script.running = false;
}

Task<Status> SmallRun::Do(const Operation& op, int number) {
  using Kind = Operation::Kind;
  if (op.changes()) co_return co_await DoChange(op, number);
  switch (op.kind) {
    case Kind::kRead:
      co_return co_await DoRead(op, number);
    case Kind::kHydrate:
      co_return co_await engine_->Hydrate(ImageChunk{op.offset / kChunk},
                                          FetchClass::kBackfill);
    case Kind::kAudit:
      co_return co_await engine_->AuditBootChunk(ImageChunk{0});
    case Kind::kCheckpoint:
      co_return co_await store_->Checkpoint();
    case Kind::kMoveJournal:
      co_return co_await DoMove(store_->superblock().journal_chunk);
    case Kind::kMoveManifest:
      co_return co_await DoMove(store_->superblock().manifest_chunk);
    case Kind::kMoveSuperblock:
      co_return co_await DoMove(store_->superblock().superblock_chunks[0]);
    case Kind::kRelocate:
      co_return co_await DoRelocate();
    case Kind::kRestore:
      co_return co_await DoRestore();
    default:
      break;
  }
  reference_.BeginFlush(number);
  const Status status = co_await engine_->Flush();
  reference_.EndFlush(number, status.has_value());
  co_return status;
}

Task<Status> SmallRun::DoRead(const Operation& op, int number) {
  AlignedBuffer out(op.size);
  reference_.BeginRead(number, op.offset, op.size);
  const Status status = co_await engine_->Read(op.offset, out.span());
  if (!status) co_return status;
  const std::string why = reference_.EndRead(number, out.span());
  if (!why.empty()) Complain(op.name + ": " + why);
  co_return status;
}

Task<Status> SmallRun::DoChange(const Operation& op, int number) {
  const std::vector<std::byte> data = SmallWorld::DataOf(op, number);
  const bool is_hint = op.kind == Operation::Kind::kDiscard;
  const bool pinned =
      world_.manifest()->IsPinned(ImageChunk{op.offset / kChunk});
  // On pinned chunks a discard must do nothing at all.
  const bool counts = !is_hint || !pinned;
  if (counts) {
    reference_.BeginChange(number, {op.offset, data, is_hint, op.fua});
  }
  AlignedBuffer aligned(data.size());
  std::ranges::copy(data, aligned.data());
  Status status;
  if (op.kind == Operation::Kind::kWrite) {
    status = co_await engine_->Write(op.offset, aligned.span(), op.fua);
  } else if (is_hint) {
    status = co_await engine_->Discard(op.offset, op.size);
  } else {
    status = co_await engine_->WriteZeroes(op.offset, op.size, op.fua);
  }
  if (counts) reference_.EndChange(number, status.has_value());
  co_return status;
}

Task<Status> SmallRun::DoMove(DiskChunk chunk) {
  Status status = co_await store_->MoveMetadata(chunk);
  if (status) store_->Release(chunk);
  co_return status;
}

Task<Status> SmallRun::DoRelocate() {
  const DiskChunk chunk{6};
  if (store_->region().IsOurs(chunk) || relocating_) co_return OkStatus();
  relocating_ = true;
  const std::span<const DiskChunk> sources(&chunk, 1);
  Status status = co_await Relocate(*disk_, *store_, sources);
  relocating_ = false;
  if (status) store_->Release(chunk);
  co_return status;
}

Task<Status> SmallRun::DoRestore() {
  const DiskChunk chunk{5};
  if (!store_->AllocateAt(chunk)) co_return OkStatus();
  const std::span<const DiskChunk> sources(&chunk, 1);
  co_return co_await RestoreSource(*disk_, *store_, sources);
}

bool SmallRun::MayFail(const Operation& op, const Error& error) const {
  using Kind = Operation::Kind;
  switch (op.kind) {
    case Kind::kRead:
    case Kind::kFlush:
    case Kind::kDiscard:
    case Kind::kAudit:
      return false;
    case Kind::kMoveJournal:
    case Kind::kMoveManifest:
    case Kind::kMoveSuperblock:
      // Two that move the same thing: it is away already.
      if (error.code == ErrorCode::kInvalid) return true;
      break;
    default:
      break;
  }
  return error.code == ErrorCode::kNoSpace && start_.setup.is_tight;
}

void SmallRun::TryCuts() {
  using Fate = ModelDisk::Fate;
  if (engine_ == nullptr) return;
  const size_t count = disk_->loose_count();
  std::mt19937_64 random(count);
  if (count <= 4) {
    for (uint32_t kept = 0; kept < (1U << count); ++kept) {
      std::vector<Fate> fates;
      for (size_t i = 0; i < count; ++i) {
        fates.push_back((kept >> i & 1) != 0 ? Fate::kKept : Fate::kDropped);
      }
      TryCut(fates, random);
    }
  } else {
    for (const Fate rest : {Fate::kDropped, Fate::kKept}) {
      TryCut(std::vector<Fate>(count, rest), random);
      for (size_t i = 0; i < count; ++i) {
        std::vector<Fate> fates(count, rest);
        fates[i] = rest == Fate::kKept ? Fate::kDropped : Fate::kKept;
        TryCut(fates, random);
      }
    }
  }
  for (int i = 0; count != 0 && i < 2; ++i) {
    std::vector<Fate> fates(count);
    for (Fate& fate : fates) fate = static_cast<Fate>(random() % 3);
    TryCut(fates, random);
  }
}

void SmallRun::TryCut(const std::vector<ModelDisk::Fate>& fates,
                      std::mt19937_64& random) {
  const HashedImage image = disk_->AfterCut(fates, random);
  const uint64_t key = (image.hash() ^ start_key_) * 0x9e3779b97f4a7c15 ^
                       reference_.CutFingerprint();
  ++cuts_.tried;
  if (!cuts_.keys.insert(key).second) return;
  const std::string why = CheckRecovered(image.image());
  if (why.empty()) return;
  std::string lost;
  for (const auto fate : fates) {
    lost += fate == ModelDisk::Fate::kKept      ? 'k'
            : fate == ModelDisk::Fate::kDropped ? 'd'
                                                : 't';
  }
  Complain("after a power cut (loose writes " + lost + "): " + why);
}

std::string SmallRun::CheckRecovered(const DiskImage& image) const {
  ModelDisk disk(image);
  auto store = OpenMap(world_, disk);
  if (!store) return "cannot be opened: " + store.error().message;
  std::string why = world_.CheckDisk(start_, disk.visible(), **store);
  if (!why.empty()) return why;
  AlignedBuffer content(SmallDisk::kImageBytes);
  why = ReadAll(disk, **store, content.span());
  if (why.empty()) why = reference_.CheckAfterCut(content.span());
  if (!why.empty()) return why;

  // The power fails again; what was read stays.
  (*store).reset();
  std::mt19937_64 random(1);
  const std::vector<ModelDisk::Fate> none(disk.loose_count(),
                                          ModelDisk::Fate::kDropped);
  ModelDisk again(disk.AfterCut(none, random).image());
  auto reopened = OpenMap(world_, again);
  if (!reopened) return "not a second time: " + reopened.error().message;
  why = world_.CheckDisk(start_, again.visible(), **reopened);
  if (!why.empty()) return "the second time: " + why;
  AlignedBuffer second(SmallDisk::kImageBytes);
  why = ReadAll(again, **reopened, second.span());
  if (why.empty() &&
      std::memcmp(content.data(), second.data(), content.size()) != 0) {
    why = "reads differently the second time";
  }
  return why;
}

std::string SmallRun::ReadAll(ModelDisk& disk, MapStore& store,
                              std::span<std::byte> out) const {
  TestExecutor executor;
  FakeChunkSource source(world_.image(), kChunk);
  StreamEngine engine(executor, disk, store, source, world_.manifest(),
                      StreamEngine::Options{});
  Status status = RunInline(engine.Read(0, out));
  if (status) status = RunInline(engine.Flush());
  return status ? std::string() : "cannot be read: " + status.error().message;
}

void SmallRun::Finish() {
  if (engine_ == nullptr) return;
  if (!is_done()) {
    Complain("nothing more can happen, and not everybody has got an answer");
    return;
  }
  disk_->Release();
  source_->Release();
  const int number = kLastNumber;
  AlignedBuffer content(SmallDisk::kImageBytes);
  reference_.BeginRead(number, 0, content.size());
  std::string why = ReadAll(*disk_, *store_, content.span());
  if (why.empty()) why = reference_.EndRead(number, content.span());
  if (why.empty()) why = world_.CheckDisk(start_, disk_->visible(), *store_);
  if (!why.empty()) Complain("at the end: " + why);
  reference_.BeginFlush(number);
  const Status status = RunInline(engine_->Flush());
  reference_.EndFlush(number, status.has_value());
  if (!status) Complain("the last flush: " + status.error().message);
  TryCuts();
  while (executor_->RunNextTimer()) {
  }
}

}  // namespace bootstream
