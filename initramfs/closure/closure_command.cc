#include "initramfs/closure/closure_command.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iostream>

#include "blockmap/base/unique_fd.h"
#include "initramfs/closure/bare_mounts.h"
#include "initramfs/closure/boot_view_device.h"
#include "initramfs/closure/frozen.h"
#include "initramfs/closure/grub_reader.h"
#include "initramfs/closure/kept_kernel.h"
#include "initramfs/system/read_files.h"

namespace bootstream {
namespace {

// Nobody waits for longer for the server while the file systems stand still,
// nor do they stand longer than that.
constexpr uint64_t kFrozenPatienceMs = 10'000;
constexpr std::chrono::milliseconds kFrozenMax(60'000);
// Besides waiting.
constexpr std::chrono::seconds kReadingMax(120);
// The running kernel's files, which are at home, for it was started from them.
constexpr std::chrono::seconds kKernelReadingMax(20);
// For what is here, so that no patience is no error.
constexpr std::chrono::seconds kGrace(15);
constexpr char kLate[] = "bootstream.closure-late";

int Fail(const Error& error) {
  std::cerr << "streamctl: " << error.message << "\n";
  return ExitCodeFor(error.code);
}

std::vector<std::string> MountsOf(const std::vector<BootTree>& trees) {
  std::vector<std::string> mounts;
  for (const BootTree& tree : trees) {
    if (std::ranges::find(mounts, tree.mount) == mounts.end()) {
      mounts.push_back(tree.mount);
    }
  }
  return mounts;
}

Status CompareAll(const std::string& device, const std::vector<BootTree>& trees,
                  Deadline deadline) {
  const GrubReader grub(device, deadline);
  for (const BootTree& tree : trees) {
    if (auto s = grub.Compare(tree); !s) return s;
  }
  return OkStatus();
}

// With the file systems frozen where that is wanted.  `bring_for_ms` as in
// BootViewDevice.
Status CompareOnce(ControlClient& client, const std::vector<BootTree>& trees,
                   std::optional<uint64_t> bring_for_ms, bool freeze) {
  Status status;
  const auto limit =
      freeze ? kFrozenMax
             : std::chrono::milliseconds(kReadingMax) +
                   std::chrono::milliseconds(bring_for_ms.value_or(0));
  const Deadline deadline = std::chrono::steady_clock::now() + limit;
  {
    std::optional<Frozen> frozen;
    if (freeze) {
      auto now = Frozen::Freeze(MountsOf(trees), 2 * limit);
      if (!now) return now.error();
      frozen.emplace(std::move(*now));
    }
    auto view = BootViewDevice::Attach(client, bring_for_ms);
    if (!view) return view.error();
    if (!view->attached()) return OkStatus();
    if (!view->failure().empty()) {
      status = Error{ErrorCode::kUnavailable, view->failure()};
    }
    if (status) status = CompareAll(view->path(), trees, deadline);
    const Status detached = view->Detach();
    if (!detached) status = detached;
  }
  return status;
}

// What cannot be synced shows when it is frozen.
void Sync(const std::string& mount) {
  const UniqueFd directory(
      ::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory) ::syncfs(directory.get());
}

Result<UniqueFd> Lock(const std::string& path) {
  UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return ErrnoError(errno, "open " + path);
  while (::flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return ErrnoError(errno, "lock " + path);
  }
  return lock;
}

}  // namespace

ClosureCommand::ClosureCommand(CLI::App& app) {
  closure_ = app.add_subcommand(
      "closure",
      "Bring home everything that the boot loader will read at the next boot");
  closure_
      ->add_option("--patience", patience_seconds_,
                   "Seconds to wait for the server")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  closure_->add_flag("--no-freeze", no_freeze_,
                     "The file systems are read-only, and stand still already");
  closure_->add_flag("--if-streamed", if_streamed_,
                     "No driver is no error: then everything is home");
  closure_->add_flag("--or-keep-kernel", or_keep_kernel_,
                     "What does not come in time comes after a restart: keep "
                     "the running kernel in memory for that");
  start_kept_ = app.add_subcommand("start-kept-kernel")->group("");
  // For tests.
  app.add_option("--root", root_)->group("");
  app.add_option("--partition", partitions_)->group("");
  app.add_option("--closure-lock", lock_)->group("");
}

std::optional<int> ClosureCommand::Run(ControlClient& client) {
  if (!*closure_) return std::nullopt;
  return or_keep_kernel_ ? BringHomeOrKeepKernel(client) : BringHome(client);
}

int ClosureCommand::BringHome(ControlClient& client) const {
  const Status status =
      Compare(client, static_cast<uint64_t>(patience_seconds_ * 1000));
  return status ? 0 : Fail(status.error());
}

// Whatever a file system has to read for it may wait for the server, too, and
// then nothing ends.
int ClosureCommand::BringHomeOrKeepKernel(ControlClient& client) const {
  const auto now = std::chrono::steady_clock::now();
  const auto code = RunInChild(
      [&] { return BringHome(client); },
      now + kReadingMax +
          std::chrono::seconds(static_cast<int64_t>(patience_seconds_)));
  const int late = ExitCodeFor(ErrorCode::kUnavailable);
  if (code && *code != late) return *code;
  if (!code) (void)Fail(code.error());
  const Status kept =
      KeepKernel(root_, kLate,
                 std::chrono::steady_clock::now() + kKernelReadingMax);
  if (!kept) {
    (void)Fail(kept.error());
    return late;
  }
  std::cerr << "streamctl: a restart starts this kernel again, without the boot"
               " loader; after that the rest is waited for\n";
  return late;
}

std::optional<int> ClosureCommand::Restart() const {
  if (!*start_kept_) return std::nullopt;
  return Fail(StartKeptKernel().error());
}

Result<std::vector<BootTree>> ClosureCommand::Trees() const {
  BootTreeOptions options;
  options.root = root_;
  for (const std::string& told : partitions_) {
    const size_t equals = told.find('=');
    if (equals == std::string::npos) continue;
    options.partitions[told.substr(equals + 1)] = std::atoi(told.c_str());
  }
  auto trees = FindBootTrees(options);
  if (!trees || trees->empty()) return trees;
  if (auto s = GrubReader::IsInstalled(); !s) return s.error();
  return trees;
}

// Twice: first without standing still, for what must be fetched takes a while;
// what GRUB makes of a file system that moves does not matter then.  What still
// has to come then would have everybody wait for the server.
Status ClosureCommand::Compare(ControlClient& client,
                               std::optional<uint64_t> bring_for_ms) const {
  const auto lock = Lock(lock_);
  if (!lock) return lock.error();
  auto trees = Trees();
  if (!trees) return trees.error();
  if (auto s = ShowBare(lock_ + ".d", *trees); !s) return s;
  // What has not been read here may have to come from the server, which GRUB's
  // reader could not tell from a slow disk.
  if (bring_for_ms) {
    std::vector<std::string> names;
    for (const BootTree& tree : *trees) names.push_back(tree.local);
    const auto now = std::chrono::steady_clock::now();
    const Status read = ReadFiles(
        "/", names, now + std::chrono::milliseconds(*bring_for_ms) + kGrace);
    if (!read) return read;
  }
  if (no_freeze_) return CompareOnce(client, *trees, bring_for_ms, false);
  for (const std::string& mount : MountsOf(*trees)) Sync(mount);
  const Status moving = CompareOnce(client, *trees, bring_for_ms, false);
  if (!moving && moving.error().code == ErrorCode::kUnavailable) return moving;
  if (bring_for_ms) bring_for_ms = std::min(*bring_for_ms, kFrozenPatienceMs);
  return CompareOnce(client, *trees, bring_for_ms, true);
}

Status ClosureCommand::Look(ControlClient& client) const {
  return Compare(client, std::nullopt);
}

}  // namespace bootstream
