#include "initramfs/source/source_command.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>

#include "initramfs/source/import_space.h"
#include "initramfs/system/run_program.h"

namespace bootstream {
namespace {

using nlohmann::json;

// Where `import` mounts what it needs.
constexpr char kImportDirectory[] = "/run/bootstream/source";
// rsync's word for Ctrl-C.
constexpr int kInterrupted = 20;

void Warn(const std::string& sentence) {
  std::cerr << "streamctl: " << sentence << std::endl;
}

int Fail(const Error& error) {
  Warn(error.message);
  return ExitCodeFor(error.code);
}

std::string Absolute(const std::string& path) {
  std::error_code error;
  auto absolute = std::filesystem::absolute(path, error);
  std::string text = error ? path : absolute.lexically_normal().string();
  if (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

// What can be written to the streamed device and find a place; nullopt: all of
// it, or the driver does not say.
std::optional<uint64_t> RoomWhileSourceIsKept(ControlClient& client) {
  const auto status = client.Ask({{"command", "status"}});
  if (!status) return std::nullopt;
  try {
    const json& space = status->at("space");
    const bool all = space.at("guaranteed") == true ||
                     status->at("committed") == true ||
                     space.at("free_chunks") >= space.at("absent_chunks");
    if (all) return std::nullopt;
    const auto chunks = space.at("free_chunks").get<uint64_t>() +
                        space.at("clean_chunks").get<uint64_t>();
    return chunks * status->at("image").at("chunk_bytes").get<uint64_t>();
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

bool IsBlockDevice(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode);
}

}  // namespace

SourceCommand::SourceCommand(CLI::App& app) {
  source_ = app.add_subcommand("source", "The old system, from the new one");
  source_->require_subcommand(1);
  source_->add_option("--record", record_)->group("");  // for tests
  attach_ = source_->add_subcommand(
      "attach", "Make its disk a read-only device, and print its path");
  mount_ = source_->add_subcommand(
      "mount", "Mount its file systems read-only; attach it if need be");
  mount_
      ->add_option("DIR", directory_,
                   "Where: a single one there, several in DIR/PARTITION")
      ->required();
  mount_->add_option("--partition", partition_, "Only this one, at DIR itself")
      ->check(CLI::NonNegativeNumber);
  import_ = source_->add_subcommand(
      "import", "Copy folders of it to where they belong in this system");
  import_->add_option("FOLDER", folders_,
                      "As the old system called it; none: everybody's home");
  import_->add_option("--from", from_,
                      "Where the old system is mounted already");
  import_->add_option("--to", to_, "Put each folder below this directory");
  import_
      ->add_option("--map-owner", map_owner_,
                   "OLD:NEW: what was this user's is that user's now; may be "
                   "given again")
      ->allow_extra_args(false);
  import_->add_flag("--dry-run", dry_run_, "Only say what would be copied");
  detach_ = source_->add_subcommand(
      "detach", "Unmount what 'mount' has mounted, and take the device away");
}

std::optional<int> SourceCommand::Run(ControlClient& client) {
  if (!directory_.empty()) directory_ = Absolute(directory_);
  if (!from_.empty()) from_ = Absolute(from_);
  if (!to_.empty()) to_ = Absolute(to_);
  if (*attach_) return Attach(client);
  if (*mount_) return Mount(client);
  if (*import_) return Import(client);
  if (*detach_) return Detach(client);
  return std::nullopt;
}

Result<SourceCommand::Attached> SourceCommand::AskToAttach(
    ControlClient& client) const {
  const auto reply = client.Ask({{"command", "source"}, {"action", "attach"}});
  if (!reply) return reply.error();
  const json device = reply->value("device", json());
  if (!device.is_string()) {
    return Error{ErrorCode::kUnsupported,
                 "the driver's answer is not what this streamctl knows"};
  }
  return Attached{device.get<std::string>(),
                  reply->value("already", json()) == true};
}

int SourceCommand::Attach(ControlClient& client) const {
  const auto attached = AskToAttach(client);
  if (!attached) return Fail(attached.error());
  std::cout << attached->device << std::endl;
  return 0;
}

Status SourceCommand::Unmount() const {
  auto mounts = SourceMounts::Load(record_);
  if (!mounts) return mounts.error();
  return mounts->UnmountAll();
}

// What is mounted of it goes first.
Status SourceCommand::TakeAway(ControlClient& client) const {
  if (auto s = Unmount(); !s) return s;
  const auto reply = client.Ask({{"command", "source"}, {"action", "detach"}});
  return reply ? OkStatus() : Status(reply.error());
}

int SourceCommand::Detach(ControlClient& client) const {
  const Status status = TakeAway(client);
  return status ? 0 : Fail(status.error());
}

Status SourceCommand::MountThese(const std::string& device,
                                 const std::vector<SourceFilesystem>& found,
                                 const std::string& directory,
                                 SourceMounts& mounts) const {
  std::vector<SourceFilesystem> wanted;
  for (const SourceFilesystem& filesystem : found) {
    if (partition_ >= 0 && filesystem.partition != partition_) continue;
    if (const auto way = HowToMount(filesystem)) {
      wanted.push_back(filesystem);
    } else if (partition_ >= 0) {
      return way.error();
    } else {
      Warn(way.error().message + "; it is left out");
    }
  }
  if (wanted.empty()) {
    return Error{ErrorCode::kNotFound,
                 partition_ >= 0 ? "the old system has no partition " +
                                       std::to_string(partition_)
                                 : "there is nothing to mount on " + device};
  }
  std::vector<Error> failures;
  for (const SourceFilesystem& filesystem : wanted) {
    const std::string where =
        wanted.size() == 1
            ? directory
            : directory + "/" + std::to_string(filesystem.partition);
    const Status mounted = mounts.Mount(device, filesystem, where);
    if (mounted) {
      std::cout << Describe(filesystem) << " is at " << where << std::endl;
    } else {
      failures.push_back(mounted.error());
    }
  }
  const bool none = failures.size() == wanted.size();
  for (size_t i = none ? 1 : 0; i < failures.size(); ++i) {
    Warn(failures[i].message);
  }
  if (none) return failures.front();
  return OkStatus();
}

// With what has been mounted before; nothing more is left behind by an error.
Result<SourceCommand::Attached> SourceCommand::MountAll(
    ControlClient& client, const std::string& directory) const {
  auto attached = AskToAttach(client);
  if (!attached) return attached.error();
  Status status;
  if (!IsBlockDevice(attached->device)) {
    status = Error{ErrorCode::kUnsupported,
                   attached->device +
                       " is no block device that could be mounted; streamd "
                       "makes one with --frontend ublk, nbd or fuse"};
  }
  if (status) {
    const auto found = FindSourceFilesystems(attached->device);
    auto mounts = SourceMounts::Load(record_);
    if (!found) status = found.error();
    if (!mounts) status = mounts.error();
    if (status)
      status = MountThese(attached->device, *found, directory, *mounts);
  }
  if (status) return attached;
  if (!attached->already) (void)TakeAway(client);
  return status.error();
}

int SourceCommand::Mount(ControlClient& client) const {
  const auto mounted = MountAll(client, directory_);
  return mounted ? 0 : Fail(mounted.error());
}

int SourceCommand::Copy(ControlClient& client,
                        const std::vector<std::string>& roots) const {
  ImportRequest request;
  request.roots = roots;
  request.folders = folders_;
  request.to = to_;
  request.map_owner = map_owner_;
  const auto plan = PlanImport(request);
  if (!plan) {
    Warn(plan.error().message);
    return plan.error().code == ErrorCode::kInvalid ? 2 : 1;
  }
  const auto room = RoomWhileSourceIsKept(client);
  const Status fits = CheckImportSpace(*plan, room);
  if (!fits && fits.error().code == ErrorCode::kNotFound) {
    Warn(fits.error().message + "; install the package rsync");
    return 1;
  }
  if (!fits && !dry_run_) return Fail(fits.error());
  if (!fits) Warn(fits.error().message);
  return CopyAll(*plan);
}

int SourceCommand::CopyAll(const std::vector<ImportFolder>& plan) const {
  const bool show_progress = ::isatty(STDOUT_FILENO) != 0;
  bool failed = false;
  for (const ImportFolder& folder : plan) {
    for (const std::string& note : folder.notes) Warn(note);
    std::cout << folder.from << (folder.part.empty() ? "" : "/" + folder.part)
              << " -> " << folder.to << std::endl;
    const auto code = RunProgram(RsyncCommand(folder, dry_run_, show_progress));
    if (!code) {
      Warn(code.error().message + "; install the package rsync");
      return 1;
    }
    if (*code == 0) continue;
    if (*code == kInterrupted) return 1;
    Warn("rsync ended with " + std::to_string(*code) + " for " + folder.from);
    failed = true;
  }
  if (!failed) return 0;
  Warn("not everything was copied; the same command goes on where it ended");
  return 1;
}

int SourceCommand::Import(ControlClient& client) const {
  return from_.empty() ? ImportFromDevice(client) : Copy(client, {from_});
}

// What `mount` has mounted is used; else we mount, and take that away again, as
// well as what an import that was cut off has left.
int SourceCommand::ImportFromDevice(ControlClient& client) const {
  auto mounts = SourceMounts::Load(record_);
  if (!mounts) return Fail(mounts.error());
  bool attached_before = false;
  if (mounts->mounts().empty()) {
    const auto attached = MountAll(client, kImportDirectory);
    if (!attached) return Fail(attached.error());
    attached_before = attached->already;
    mounts = SourceMounts::Load(record_);
    if (!mounts) return Fail(mounts.error());
  }
  bool ours = true;
  std::vector<std::string> roots;
  for (const SourceMount& mount : mounts->mounts()) {
    roots.push_back(mount.directory);
    ours = ours && mount.directory.starts_with(kImportDirectory);
  }
  const int code = Copy(client, roots);
  if (!ours) return code;
  const Status away = attached_before ? Unmount() : TakeAway(client);
  if (away) return code;
  const int failure = Fail(away.error());
  return code != 0 ? code : failure;
}

}  // namespace bootstream
