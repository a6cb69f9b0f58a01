#include "bootagent/commands.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <iostream>

#include "blockmap/base/file_util.h"
#include "blockmap/base/io_loop.h"
#include "bootagent/attempts.h"
#include "bootagent/disk_lock.h"
#include "bootagent/efi_boot.h"
#include "bootagent/facts.h"
#include "bootagent/forget.h"
#include "bootagent/http_image_access.h"
#include "bootagent/locate.h"
#include "bootagent/migrate.h"
#include "bootagent/plan_steps.h"
#include "bootagent/return.h"
#include "bootagent/rollback.h"
#include "bootagent/status.h"

namespace bootstream {
namespace {

constexpr uint64_t kPlanBytesMax = 1 << 20;

// A disk that is opened for one command, and what works on it.
class Session {
 public:
  static Result<std::unique_ptr<Session>> Open(const CommandOptions& options,
                                               OpenMode mode) {
    auto disk = ChooseDisk(options.disk);
    if (!disk) return disk.error();
    auto device = OpenLocked(*disk, mode);
    if (!device) return device.error();
    return std::unique_ptr<Session>(
        new Session(*disk, std::move(*device), options));
  }
  const Job& job() const { return job_; }

 private:
  Session(const std::string& disk, PosixBlockDevice device,
          const CommandOptions& options)
      : device_(std::move(device)),
        stops_(options.stop_at),
        job_{disk,   device_,   SerialDigest(disk, options.serial),
             stops_, progress_, options.batch_chunks} {}

  PosixBlockDevice device_;
  StopPoints stops_;
  Progress progress_;
  Job job_;
};

// For --offline: nothing can be fetched.
class NoImageAccess final : public ImageAccess {
 public:
  Task<Result<ManifestFile>> FetchManifest() override { co_return Missing(); }
  Result<ChunkSource*> Source(std::shared_ptr<const Manifest>,
                              const std::vector<std::string>&) override {
    return Missing();
  }

 private:
  static Error Missing() {
    return Error{ErrorCode::kUnavailable,
                 "part of the boot set is missing and has to be fetched: try "
                 "again with a network, without --offline"};
  }
};

Status Confirm(const CommandOptions& options, const std::string& question) {
  if (options.yes) return OkStatus();
  if (::isatty(STDIN_FILENO) == 0) {
    return Error{ErrorCode::kRefused,
                 "nobody is there to be asked; say --yes to go on"};
  }
  std::cerr << question << " [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  if (answer == "y" || answer == "yes") return OkStatus();
  return Error{ErrorCode::kRefused, "not confirmed; nothing was done"};
}

Result<WhenFull> ParseWhenFull(const std::string& text) {
  if (text.empty()) return WhenFull::kUnset;
  if (text == "block") return WhenFull::kBlock;
  if (text == "give-up-source") return WhenFull::kGiveUpSource;
  return Error{ErrorCode::kInvalid,
               "--when-full is block or give-up-source, not " + text};
}

// "3", or a device name that ends in the number.
Result<uint32_t> ParsePartition(const std::string& text) {
  const size_t digits = text.find_last_not_of("0123456789");
  const std::string number =
      digits == std::string::npos ? text : text.substr(digits + 1);
  uint32_t value = 0;
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || value == 0) {
    return Error{ErrorCode::kInvalid,
                 "--region names a partition by its number, not " + text};
  }
  return value;
}

Result<PlanOptions> MakePlanOptions(const CommandOptions& options) {
  PlanOptions plan;
  const auto when_full = ParseWhenFull(options.when_full);
  if (!when_full) return when_full.error();
  plan.when_full = *when_full;
  if (!options.region.empty()) {
    const auto partition = ParsePartition(options.region);
    if (!partition) return partition.error();
    plan.region_partition = *partition;
  }
  plan.headroom_bytes = options.headroom_bytes;
  return plan;
}

Result<HttpImageAccess::Options> AccessOptions(const CommandOptions& options) {
  HttpImageAccess::Options access;
  access.servers = options.servers;
  access.public_key_file = options.public_key;
  access.ca_file = options.ca;
  access.give_up_after = std::chrono::milliseconds(
      static_cast<int64_t>(options.give_up_seconds * 1000));
  access.stall_timeout = std::chrono::milliseconds(options.stall_timeout_ms);
  if (!options.image.empty()) {
    auto image = ParseImageReference(options.image);
    if (!image) return image.error();
    access.image = std::move(*image);
  }
  for (const std::string& text : options.min_versions) {
    const auto version = ParseImageVersion(text);
    if (!version) return version.error();
    access.min_version = std::max(access.min_version, *version);
  }
  return access;
}

// What --plan names, filled into the options that were not given.
Result<std::optional<PlanReference>> TakePlan(CommandOptions& options) {
  if (options.plan_in.empty()) return std::optional<PlanReference>();
  const auto file = ReadWholeFile(options.plan_in, kPlanBytesMax);
  if (!file) return file.error();
  auto plan = ReadPlanJson(
      std::string(reinterpret_cast<const char*>(file->data()), file->size()));
  if (!plan) return Annotate(plan.error(), options.plan_in);
  if (options.disk.empty()) options.disk = plan->disk;
  if (options.servers.empty()) options.servers = plan->servers;
  if (options.image.empty()) {
    options.image = plan->image_name + ":" + plan->image_version;
  }
  if (options.when_full.empty()) options.when_full = plan->when_full;
  if (options.region.empty()) {
    options.region = std::to_string(plan->source_partition);
  }
  return std::optional<PlanReference>(std::move(*plan));
}

// What a command needs that takes an image up.
struct ImageSession {
  HttpImageAccess::Options access;
  std::unique_ptr<Session> session;
  std::unique_ptr<IoLoop> loop;

  static Result<ImageSession> Open(const CommandOptions& options,
                                   OpenMode mode) {
    auto access = AccessOptions(options);
    if (!access) return access.error();
    auto session = Session::Open(options, mode);
    if (!session) return session.error();
    auto loop = IoLoop::Create();
    if (!loop) return loop.error();
    return ImageSession{std::move(*access), std::move(*session),
                        std::move(*loop)};
  }
  const Job& job() const { return session->job(); }
};

Task<Result<Plan>> PlanFor(const Job& job, const CommandOptions& options,
                           const PlanOptions& plan_options,
                           ImageAccess& access) {
  const auto located = co_await Locate(job);
  if (!located) co_return located.error();
  if (located->superblock && (located->by != Located::By::kRegionFile ||
                              located->superblock->phase == Phase::kParked)) {
    co_return Error{ErrorCode::kRefused,
                    "there is a migration on this disk already; bootagent "
                    "status shows it"};
  }
  const auto image = co_await access.FetchManifest();
  if (!image) co_return image.error();
  if (located->superblock) {
    auto s = CheckNotOlder(*located->superblock, *image->manifest);
    if (!s) co_return s.error();
  }
  const auto facts = co_await GatherFacts(job, options.serial, *image, access,
                                          options.servers);
  if (!facts) co_return facts.error();
  co_return MakePlan(*facts, *image->manifest, plan_options);
}

// Nothing but a warning: a target that cannot be chosen now can be later.
void ChooseDiskForNextStart(const EfiBoot& efi, const PartitionTable& table) {
  if (auto s = efi.StartNextFrom(table); !s) {
    std::cerr << "bootagent: " << s.error().message << "\n";
  }
}

Task<Status> StartFromDisk(const Job& job, const EfiBoot& efi) {
  const auto table = co_await ReadPartitionTable(job.device);
  if (!table) co_return table.error();
  ChooseDiskForNextStart(efi, *table);
  co_return OkStatus();
}

// The source's entries, while its partitions are there.
Status SaveBootVariables(const Job& job, const EfiBoot& efi) {
  if (!efi.available()) return OkStatus();
  const auto table = RunInline(ReadPartitionTable(job.device));
  return table ? efi.Save(*table) : OkStatus();
}

Status StartFromArmedDisk(const Job& job, const EfiBoot& efi) {
  return efi.available() ? RunInline(StartFromDisk(job, efi)) : OkStatus();
}

}  // namespace

Status RunPlan(const CommandOptions& options) {
  const auto plan_options = MakePlanOptions(options);
  if (!plan_options) return plan_options.error();
  auto opened = ImageSession::Open(options, OpenMode::kReadOnly);
  if (!opened) return opened.error();
  HttpImageAccess access(*opened->loop, std::move(opened->access));
  const auto plan = opened->loop->RunUntilDone(
      PlanFor(opened->job(), options, *plan_options, access));
  if (!plan) return plan.error();
  const std::string json = PlanJson(*plan, options.servers);
  if (!options.plan_out.empty()) {
    auto s = WriteFileDurably(options.plan_out, std::as_bytes(std::span(json)),
                              0644, IfExists::kReplace);
    if (!s) return s;
  }
  std::cout << (options.json ? json : PlanText(*plan));
  return OkStatus();
}

Status RunMigrate(CommandOptions options) {
  auto reference = TakePlan(options);
  if (!reference) return reference.error();
  if (options.dry_run) return RunPlan(options);
  auto plan_options = MakePlanOptions(options);
  if (!plan_options) return plan_options.error();
  auto opened = ImageSession::Open(options, OpenMode::kReadWrite);
  if (!opened) return opened.error();
  const Job& job = opened->job();

  const auto variables = OpenEfiVarFs();
  const EfiBoot efi(*variables);
  MigrateOptions migrate;
  migrate.image_name = opened->access.image.name;
  migrate.image_version = opened->access.image.version;
  migrate.min_version = opened->access.min_version;
  migrate.plan = *plan_options;
  migrate.strings = {options.servers, options.network};
  migrate.serial = options.serial;
  migrate.confirm = [&](const Plan& plan) {
    if (*reference) {
      if (auto s = CheckSamePlan(**reference, plan); !s) return s;
    }
    std::cerr << PlanText(plan);
    return Confirm(options, "Migrate " + plan.disk + "?");
  };
  migrate.before_stub = [&] { return SaveBootVariables(job, efi); };
  HttpImageAccess access(*opened->loop, std::move(opened->access));
  auto s = opened->loop->RunUntilDone(Migrate(job, migrate, access));
  if (s) s = StartFromArmedDisk(job, efi);
  if (!s) return s;
  std::cout << job.disk << " is armed: the next start from it is the new "
            << "system's\n";
  return OkStatus();
}

Status RunRollback(const CommandOptions& options) {
  auto session = Session::Open(options, OpenMode::kReadWrite);
  if (!session) return session.error();
  const Job& job = (*session)->job();
  RollbackOptions rollback;
  rollback.if_unhealthy = options.if_unhealthy;
  rollback.confirm = [&](const Superblock& superblock) {
    return Confirm(options, "Roll " + job.disk + " back from " +
                                superblock.image_name + " (" +
                                std::string(PhaseName(superblock.phase)) +
                                ") to the old system?");
  };
  if (auto s = RunInline(Rollback(job, rollback)); !s) return s;
  const auto variables = OpenEfiVarFs();
  if (const EfiBoot efi(*variables); efi.available()) {
    if (auto s = efi.Restore(); !s) return s;
    if (auto s = RunInline(StartFromDisk(job, efi)); !s) return s;
  }
  std::cout << "the old system is back on " << job.disk << "\n";
  return OkStatus();
}

Status RunReturn(const CommandOptions& options) {
  auto opened = ImageSession::Open(options, OpenMode::kReadWrite);
  if (!opened) return opened.error();
  const Job& job = opened->job();
  const auto variables = OpenEfiVarFs();
  const EfiBoot efi(*variables);
  ReturnOptions back;
  back.serial = options.serial;
  back.confirm = [&](const Superblock& superblock) {
    return Confirm(options, "Bring " + superblock.image_name + " on " +
                                job.disk + " back?");
  };
  back.before_stub = [&] { return SaveBootVariables(job, efi); };
  HttpImageAccess http(*opened->loop, std::move(opened->access));
  NoImageAccess none;
  ImageAccess& access =
      options.offline ? static_cast<ImageAccess&>(none) : http;
  auto s = opened->loop->RunUntilDone(Return(job, back, access));
  if (s) s = StartFromArmedDisk(job, efi);
  if (!s) return s;
  std::cout << job.disk << " is armed: the next start from it is the new "
            << "system's, with what was written there\n";
  return OkStatus();
}

Status RunForget(const CommandOptions& options) {
  auto session = Session::Open(options, OpenMode::kReadWrite);
  if (!session) return session.error();
  const Job& job = (*session)->job();
  auto s = Confirm(options, "Give up what is parked on " + job.disk + "?");
  if (s) s = RunInline(Forget(job));
  if (!s) return s;
  std::cout << "the region of " << job.disk << " is given up\n";
  return OkStatus();
}

Status RunStatus(const CommandOptions& options) {
  auto session = Session::Open(options, OpenMode::kReadOnly);
  if (!session) return session.error();
  const Job& job = (*session)->job();
  const auto text =
      options.json ? RunInline(StatusJson(job)) : RunInline(StatusText(job));
  if (!text) return text.error();
  std::cout << *text;
  return OkStatus();
}

Status RunCheck(const CommandOptions& options) {
  auto session = Session::Open(options, OpenMode::kReadOnly);
  if (!session) return session.error();
  const auto report = RunInline(CheckMigration((*session)->job()));
  if (!report) return report.error();
  std::cout << *report;
  return OkStatus();
}

Status RunBootDisk(const CommandOptions& options) {
  const auto variables = OpenEfiVarFs();
  const EfiBoot efi(*variables);
  if (!efi.available()) {
    return Error{ErrorCode::kUnsupported,
                 "this machine was not started by UEFI, or efivarfs is not "
                 "mounted: choose the disk in the boot menu"};
  }
  auto session = Session::Open(options, OpenMode::kReadWrite);
  if (!session) return session.error();
  // Not to be able to count is no reason not to start.
  if (auto s = RunInline(CountStart((*session)->job())); !s) {
    std::cerr << "bootagent: this start is not counted: " << s.error().message
              << "\n";
  }
  const auto table = RunInline(ReadPartitionTable((*session)->job().device));
  if (!table) return table.error();
  return efi.StartNextFrom(*table);
}

}  // namespace bootstream
