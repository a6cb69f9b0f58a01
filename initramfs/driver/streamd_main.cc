#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "blockmap/base/posix_block_device.h"
#include "blockmap/disk/probe.h"
#include "blockmap/image/least_rights.h"
#include "initramfs/driver/control_server.h"
#include "initramfs/driver/driver.h"
#include "initramfs/driver/process.h"
#include "initramfs/driver/run_options.h"
#include "initramfs/driver/scan.h"
#include "initramfs/driver/take_over.h"
#include "initramfs/driver/worker_disk.h"
#include "initramfs/keeper/keeper.h"
#include "initramfs/takeover/takeover.h"
#include "initramfs/takeover/udev_state.h"

namespace bootstream {
namespace {

using nlohmann::json;

using Options = RunOptions;

std::chrono::milliseconds RandomUpTo(std::chrono::milliseconds longest) {
  std::random_device random;
  using Draw = std::uniform_int_distribution<int64_t>;
  return std::chrono::milliseconds(Draw(0, longest.count())(random));
}

std::string Sentence(const Error& error) { return "streamd: " + error.message; }

// The disk with the migration, from --disk or by looking at all of them.
Result<std::string> ChooseDisk(const Options& options) {
  if (!options.driver.disk.empty()) return options.driver.disk;
  auto found = ScanDisks(CandidateDisks());
  if (!found) return found.error();
  for (const std::string& warning : found->warnings) {
    std::cerr << "streamd: " << warning << "\n";
  }
  if (found->disk.empty()) {
    return Error{ErrorCode::kNotFound, "no disk is under migration"};
  }
  return found->disk;
}

// Go to the root directory that outlives the initramfs.
Status ChangeRoot(const std::string& path, FdStore& kept) {
  if (path.empty()) return OkStatus();
  UniqueFd root = kept.Take("root");
  if (!root) {
    root.reset(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return ErrnoError(errno, path);
    if (auto s = kept.Keep("root", root.get()); !s) return s;
  }
  if (::fchdir(root.get()) != 0 || ::chroot(".") != 0) {
    return ErrnoError(errno, "chroot to " + path);
  }
  return OkStatus();
}

Task<Status> ServeUntilTold(IoLoop& loop, StreamDriver& driver, int signals,
                            FdStore& kept) {
  for (;;) {
    signalfd_siginfo info{};
    const int n = co_await loop.Do([&](io_uring_sqe* sqe) {
      io_uring_prep_read(sqe, signals, &info, sizeof info, 0);
    });
    if (n == -EINTR) continue;
    if (n < 0) co_return ErrnoError(-n, "signalfd");
    Status status = co_await driver.Stop();
    if (status || status.error().code != ErrorCode::kRefused) co_return status;
    std::cerr << Sentence(status.error()) << std::endl;
    kept.Say(KeeperWord::kRefused, "");
  }
}

struct Outcome {
  Status status;
  bool was_ready = false;
};

// The migration had settled, and the worker before us died while it left.
Task<Outcome> EndLeaving(IoLoop& loop, TakeOver& takeover, UniqueFd disk,
                         const Options& options, FdStore& kept) {
  Status status = co_await takeover.EndSwapOfAnother(/*over_raw_disk=*/true);
  const bool no_device = !status && status.error().code == ErrorCode::kNotFound;
  if (status || no_device) {
    status = co_await StreamDriver::EndForAnother(
        loop, std::move(disk), options.driver, kept, !no_device);
  }
  if (status) status = co_await takeover.GiveBack();
  co_return Outcome{std::move(status), true};
}

Task<Outcome> RunDriver(IoLoop& loop, const Options& options, WorkerDisk disk,
                        int signals, FdStore& kept) {
  const auto device_before = kept.TakeText("device");
  const bool resumed = device_before.has_value();
  TakeOver takeover(loop, {options.driver.disk, options.driver.control,
                           options.root, disk.proc.get()});
  takeover.set_device(device_before.value_or(""));
  if (resumed) {
    if (auto s = ChangeRoot(options.root, kept); !s) co_return Outcome{s};
  }
  UniqueFd again(::fcntl(disk.disk.get(), F_DUPFD_CLOEXEC, 0));
  auto driver = co_await StreamDriver::Open(loop, std::move(disk.disk),
                                            options.driver, kept);
  if (!driver && resumed && options.takeover &&
      driver.error().code == ErrorCode::kNotFound) {
    co_return co_await EndLeaving(loop, takeover, std::move(again), options,
                                  kept);
  }
  again.reset();
  if (!driver) co_return Outcome{driver.error()};
  if (options.takeover || options.lock_memory) ReserveMemory();
  auto device = co_await (*driver)->Start(resumed);
  if (!device) co_return Outcome{device.error()};
  takeover.set_device(*device);
  if (options.takeover) {
    auto mapping = resumed ? takeover.EndSwapOfAnother(false) : takeover.Map();
    const Status mapped = co_await mapping;
    if (!mapped) co_return Outcome{mapped.error()};
  }
  if (!resumed) {
    Status status = ChangeRoot(options.root, kept);
    if (status) status = kept.KeepText("device", *device);
    if (!status) co_return Outcome{status};
  }
  const std::string line = "ready: " + *device;
  if (kept.has_keeper()) {
    kept.Say(KeeperWord::kReady, line);
  } else {
    std::cout << line << std::endl;
  }
  const bool leaves = options.takeover && !options.driver.read_only;
  if (leaves) Spawn(takeover.LeaveWhenSettled(**driver));
  Status status = co_await ServeUntilTold(loop, **driver, signals, kept);
  if (leaves) {
    co_await takeover.Stop();
    if (status && (*driver)->left()) status = co_await takeover.GiveBack();
  }
  co_return Outcome{std::move(status), true};
}

Result<UniqueFd> CatchSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) {
    return ErrnoError(errno, "sigprocmask");
  }
  ::signal(SIGPIPE, SIG_IGN);
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!fd) return ErrnoError(errno, "signalfd");
  return fd;
}

Result<Outcome> RunInThisProcess(const Options& options, FdStore& kept) {
  if (options.takeover || options.lock_memory) {
    if (auto s = LockMemory(); !s) return s.error();
  }
  if (options.takeover) {
    if (auto s = RunFirst(); !s) std::cerr << Sentence(s.error()) << "\n";
  }
  auto signals = CatchSignals();
  if (!signals) return signals.error();
  auto disk = OpenDiskOnce(options.driver.disk, options.takeover,
                           options.driver.read_only, kept);
  if (!disk) return disk.error();
  auto loop = IoLoop::Create();
  if (!loop) return loop.error();
  return (*loop)->RunUntilDone(
      RunDriver(**loop, options, std::move(*disk), signals->get(), kept));
}

// The exit code.
int Work(const Options& options, FdStore kept) {
  auto outcome = RunInThisProcess(options, kept);
  const Status status = outcome ? outcome->status : outcome.error();
  if (status) return 0;
  const int code = ExitCodeFor(status.error().code);
  if (kept.has_keeper() && !(outcome && outcome->was_ready)) {
    kept.Say(KeeperWord::kFailed, Sentence(status.error()), code);
  } else {
    std::cerr << Sentence(status.error()) << std::endl;
  }
  return code;
}

// A console that takes no more must not hold up the keeper.
void LogIfPossible(const std::string& line) {
  pollfd polled{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&polled, 1, 0) != 1 || (polled.revents & POLLOUT) == 0) return;
  std::cerr << "streamd: " << line << std::endl;
}

int Keep(const Options& options, std::optional<Daemonizer>& daemonizer) {
  KeeperHooks hooks;
  hooks.log = LogIfPossible;
  hooks.end_with_keeper = !options.takeover;
  hooks.work = [&](FdStore store) {
    daemonizer.reset();  // the keeper tells
    return Work(options, std::move(store));
  };
  hooks.ready = [&](const std::string& line) {
    if (daemonizer) {
      daemonizer->Ready(line);
    } else {
      std::cout << line << std::endl;
    }
  };
  hooks.failed = [&](const std::string& line, int code) {
    if (daemonizer) {
      daemonizer->Failed(line, code);
    } else {
      std::cerr << line << std::endl;
    }
  };
  return RunKeeper(hooks);
}

// The old system's device has the same UUIDs as what may be elsewhere.
Status HideFromUdev(const std::string& device, bool comes) {
  if (comes) return WriteUdevRole(device, "source", {});
  RemoveUdevRole(device);
  return OkStatus();
}

// What the old system's device needs when the initramfs is gone; without it,
// only that cannot be had.
void KeepKernelInSight(const std::string& root) {
  for (const char* path : {"/dev", "/sys", "/run/bootstream"}) {
    const Status shown = ShowIn(root, path);
    if (!shown) std::cerr << Sentence(shown.error()) << "\n";
  }
}

int Run(Options options, char** argv) {
  auto disk = ChooseDisk(options);
  if (!disk) {
    std::cerr << Sentence(disk.error()) << "\n";
    return ExitCodeFor(disk.error().code);
  }
  options.driver.disk = *disk;
  options.driver.health.boot_id = ThisBoot();
  options.driver.side_notice = HideFromUdev;
  options.driver.stall_timeout =
      std::chrono::milliseconds(options.stall_timeout_ms);
  options.driver.back_off_max =
      std::chrono::milliseconds(options.back_off_max_ms);
  options.driver.backfill.start_paused = options.backfill_paused;
  options.driver.backfill.resume_after =
      std::chrono::seconds(options.resume_after_seconds);
  options.driver.backfill.start_jitter =
      RandomUpTo(std::chrono::seconds(options.start_jitter_seconds));
  if (!options.keep && !options.takeover && !options.daemonize) {
    return Work(options, FdStore());
  }
  // A second map must not wake up.  Every process of ours holds it.
  UniqueFd hibernation;
  if (options.takeover) {
    hibernation = ForbidHibernation();
    Status status = BecomeRootStorage(argv);
    if (status) status = LeaveMounts();
    if (status && !options.root.empty()) KeepKernelInSight(options.root);
    if (!status) {
      std::cerr << Sentence(status.error()) << "\n";
      return 1;
    }
  }
  std::optional<Daemonizer> daemonizer;
  if (options.daemonize) {
    auto forked = Daemonizer::Fork();
    if (!forked) {
      std::cerr << Sentence(forked.error()) << "\n";
      return 1;
    }
    daemonizer.emplace(std::move(*forked));
    if (options.takeover) {
      if (auto s = LockMemory(); !s) {
        daemonizer->Failed(Sentence(s.error()), 1);
        return 1;
      }
    }
  }
  return Keep(options, daemonizer);
}

Task<Status> Leave(IoLoop& loop, UniqueFd disk, const Options& options) {
  FdStore nothing_kept;
  auto driver = co_await StreamDriver::Open(loop, std::move(disk),
                                            options.driver, nothing_kept);
  if (!driver && driver.error().code == ErrorCode::kNotFound) {
    co_return OkStatus();  // gone, or gone now
  }
  if (!driver) co_return driver.error();
  co_return co_await (*driver)->Leave();
}

// What the kernel has read of the disk and its partitions may be what has just
// become zero.
Status ReadTableAgain(const std::string& disk) {
  const UniqueFd fd(::open(disk.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) != 0) return ErrnoError(errno, disk);
  if (!S_ISBLK(info.st_mode)) return OkStatus();
  if (::ioctl(fd.get(), BLKFLSBUF, 0) != 0 ||
      ::ioctl(fd.get(), BLKRRPART, 0) != 0) {
    return ErrnoError(errno, "read the partition table of " + disk);
  }
  return OkStatus();
}

Status LeaveDisk(const Options& options) {
  auto disk = OpenForDriver(options.driver.disk, /*takeover=*/false,
                            /*read_only=*/false);
  if (!disk) return disk.error();
  auto loop = IoLoop::Create();
  if (!loop) return loop.error();
  auto leaving = Leave(**loop, std::move(*disk), options);
  if (auto s = (*loop)->RunUntilDone(std::move(leaving)); !s) return s;
  return ReadTableAgain(options.driver.disk);
}

int Scan(const std::string& disk) {
  auto found = ScanDisks(disk.empty() ? CandidateDisks() : std::vector{disk});
  if (!found) {
    std::cerr << Sentence(found.error()) << "\n";
    return ExitCodeFor(found.error().code);
  }
  json report = {{"found", !found->disk.empty()},
                 {"warnings", found->warnings}};
  if (found->leaving) {
    report["disk"] = found->disk;
    report["phase"] = "leaving";
  }
  if (found->superblock) {
    const Superblock& superblock = *found->superblock;
    report["disk"] = found->disk;
    report["phase"] = PhaseName(superblock.phase);
    report["between_systems"] = found->by_stub;
    report["network_needed"] = superblock.phase < Phase::kComplete;
    report["network"] = superblock.network;
    report["rollback_wished"] = superblock.rollback_wished;
    report["image"] = superblock.image_name;
    report["migration_id"] = ToHex(superblock.migration_id);
    report["committed"] = superblock.committed;
    report["healthy_once"] = superblock.healthy_once;
    report["boots_without_health"] = superblock.boots_without_health;
  }
  std::cout << JsonLine(report) << std::flush;
  return 0;
}

int Main(int argc, char** argv) {
  ForbidNewRights();
  UseLittleMemory();
  Options options;
  DriverOptions& driver = options.driver;
  std::string scan_disk;
  CLI::App app{"The streaming block driver."};
  app.name("streamd");
  app.set_version_flag("--version", "bootstream " BOOTSTREAM_VERSION);
  app.require_subcommand(1);
  auto* scan = app.add_subcommand(
      "scan", "Print, as JSON, which disk is under migration");
  scan->add_option("--disk", scan_disk, "Look at this disk or disk file only");
  auto* leave = app.add_subcommand(
      "leave",
      "Take the last of a migration that has settled off its disk, which then "
      "needs no driver");
  leave->add_option("--disk", driver.disk, "Disk or disk file")->required();
  leave
      ->add_option("--pubkey", driver.public_key,
                   "PEM key that the manifest must be signed with")
      ->capture_default_str();
  auto* run = app.add_subcommand("run", "Serve the target image of a disk");
  AddRunOptions(*run, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (*scan) return Scan(scan_disk);
  if (*leave) {
    const Status status = LeaveDisk(options);
    if (status) return 0;
    std::cerr << Sentence(status.error()) << "\n";
    return ExitCodeFor(status.error().code);
  }
  if (driver.disk.empty() && !options.scan) {
    std::cerr << "streamd: run: say --disk DEVICE or --scan\n";
    return 2;
  }
  return Run(std::move(options), argv);
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) { return bootstream::Main(argc, argv); }
