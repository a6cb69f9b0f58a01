#include <signal.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>

#include "blockmap/base/posix_block_device.h"
#include "blockmap/disk/probe.h"
#include "initramfs/driver/driver.h"
#include "initramfs/driver/process.h"
#include "initramfs/driver/scan.h"
#include "initramfs/takeover/takeover.h"

namespace bootstream {
namespace {

using nlohmann::json;

struct Options {
  DriverOptions driver;
  bool scan = false;
  bool takeover = false;
  bool daemonize = false;
  std::string root;
  bool backfill_paused = false;
  uint64_t resume_after_seconds = 0;
};

std::string Sentence(const Error& error) {
  return "streamd: " + error.message;
}

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

Result<UniqueFd> OpenForDriver(const Options& options) {
  const std::string& path = options.driver.disk;
  if (options.takeover) {
    auto claimed = ClaimDisk(path);
    if (!claimed) return claimed.error();
    return std::move(claimed->fd);
  }
  auto fd = OpenDisk(path, options.driver.read_only ? OpenMode::kReadOnly
                                                    : OpenMode::kReadWrite);
  if (!fd) return fd.error();
  const int lock = options.driver.read_only ? LOCK_SH : LOCK_EX;
  if (::flock(fd->get(), lock | LOCK_NB) != 0) {
    return Error{ErrorCode::kRefused,
                 path + " is in use by another streamd or bootagent: let it "
                        "end first"};
  }
  return fd;
}

// MapPartitions blocks while udev reads the device that this loop serves.
Task<Status> MapPartitionsAside(IoLoop& loop, std::string disk,
                                std::string device) {
  Event done;
  Status status;
  std::thread worker([&] {
    auto mapped = MapPartitions(disk, device);
    if (!mapped) status = mapped.error();
    loop.Post([&] { done.Set(); });
  });
  co_await done;
  worker.join();
  co_return status;
}

Task<Status> ServeUntilTold(IoLoop& loop, StreamDriver& driver, int signals) {
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
  }
}

struct Outcome {
  Status status;
  bool was_ready = false;
};

Task<Outcome> RunDriver(IoLoop& loop, Options options, UniqueFd disk,
                        int signals, std::optional<Daemonizer>& daemonizer) {
  auto driver =
      co_await StreamDriver::Open(loop, std::move(disk), options.driver);
  if (!driver) co_return Outcome{driver.error()};
  auto device = co_await (*driver)->Start();
  if (!device) co_return Outcome{device.error()};
  if (options.takeover) {
    Status mapped =
        co_await MapPartitionsAside(loop, options.driver.disk, *device);
    if (!mapped) co_return Outcome{mapped.error()};
  }
  if (!options.root.empty() &&
      (::chroot(options.root.c_str()) != 0 || ::chdir("/") != 0)) {
    co_return Outcome{ErrnoError(errno, "chroot to " + options.root)};
  }
  const std::string line = "ready: " + *device;
  if (daemonizer) {
    daemonizer->Ready(line);
  } else {
    std::cout << line << std::endl;
  }
  Status status = co_await ServeUntilTold(loop, **driver, signals);
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

Result<Outcome> RunInThisProcess(Options options, char** argv,
                                 std::optional<Daemonizer>& daemonizer) {
  if (options.takeover) {
    if (auto s = BecomeRootStorage(argv); !s) return s.error();
  }
  auto signals = CatchSignals();
  if (!signals) return signals.error();
  auto disk = OpenForDriver(options);
  if (!disk) return disk.error();
  auto loop = IoLoop::Create();
  if (!loop) return loop.error();
  return (*loop)->RunUntilDone(RunDriver(**loop, std::move(options),
                                         std::move(*disk), signals->get(),
                                         daemonizer));
}

int Run(Options options, char** argv) {
  auto disk = ChooseDisk(options);
  if (!disk) {
    std::cerr << Sentence(disk.error()) << "\n";
    return ExitCodeFor(disk.error().code);
  }
  options.driver.disk = *disk;
  options.driver.backfill.start_paused = options.backfill_paused;
  options.driver.backfill.resume_after =
      std::chrono::seconds(options.resume_after_seconds);
  std::optional<Daemonizer> daemonizer;
  if (options.daemonize) {
    auto forked = Daemonizer::Fork();
    if (!forked) {
      std::cerr << Sentence(forked.error()) << "\n";
      return 1;
    }
    daemonizer.emplace(std::move(*forked));
  }
  auto outcome = RunInThisProcess(std::move(options), argv, daemonizer);
  const Status status = outcome ? outcome->status : outcome.error();
  if (status) return 0;
  const int code = ExitCodeFor(status.error().code);
  if (daemonizer && !(outcome && outcome->was_ready)) {
    daemonizer->Failed(Sentence(status.error()), code);
  } else {
    std::cerr << Sentence(status.error()) << std::endl;
  }
  return code;
}

int Scan(const std::string& disk) {
  auto found =
      ScanDisks(disk.empty() ? CandidateDisks() : std::vector{disk});
  if (!found) {
    std::cerr << Sentence(found.error()) << "\n";
    return ExitCodeFor(found.error().code);
  }
  json report = {{"found", found->superblock.has_value()},
                 {"warnings", found->warnings}};
  if (found->superblock) {
    const Superblock& superblock = *found->superblock;
    report["disk"] = found->disk;
    report["phase"] = PhaseName(superblock.phase);
    report["between_systems"] = found->by_stub;
    report["network_needed"] = superblock.phase < Phase::kComplete;
    report["network"] = superblock.network;
    report["rollback_wished"] = superblock.rollback_wished;
    report["image"] = superblock.image_name;
  }
  std::cout << report.dump() << std::endl;
  return 0;
}

int Main(int argc, char** argv) {
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
  auto* run = app.add_subcommand("run", "Serve the target image of a disk");
  auto* disk = run->add_option("--disk", driver.disk, "Disk or disk file");
  run->add_flag("--scan", options.scan, "Find the disk")->excludes(disk);
  const std::map<std::string, FrontendKind> kinds{
      {"socket", FrontendKind::kSocket},
      {"nbd", FrontendKind::kNbd},
      {"fuse", FrontendKind::kFuse}};
  run->add_option("--frontend", driver.frontend,
                  "socket: NBD on a Unix socket; nbd: the kernel's /dev/nbdN; "
                  "fuse: a file with a loop device on it")
      ->required()
      ->transform(CLI::CheckedTransformer(kinds));
  run->add_option("--socket", driver.socket, "Path for --frontend socket")
      ->capture_default_str();
  run->add_option("--mount", driver.mount_directory,
                  "Directory for --frontend fuse")
      ->capture_default_str();
  run->add_option("--control", driver.control, "Control socket")
      ->capture_default_str();
  run->add_option("--status-file", driver.status_file)->capture_default_str();
  run->add_option("--pubkey", driver.public_key,
                  "PEM key that the manifest must be signed with")
      ->capture_default_str();
  run->add_option("--ca", driver.ca, "PEM certificates for HTTPS servers");
  run->add_option("--url", driver.urls,
                  "Image server, instead of those recorded on the disk");
  run->add_flag("--read-only", driver.read_only,
                "Write nothing to the disk; what is missing is not kept");
  run->add_flag("--takeover", options.takeover,
                "Hide the raw disk and map the image's partitions");
  run->add_flag("--daemonize", options.daemonize,
                "Go into the background when the device is there");
  run->add_option("--root", options.root,
                  "Make this the root directory when the device is there: the "
                  "initramfs is emptied, and name resolution and certificates "
                  "are still to be found");
  run->add_flag("--backfill-paused", options.backfill_paused,
                "Fetch only what is read until 'streamctl backfill resume'");
  run->add_option("--resume-after", options.resume_after_seconds,
                  "Seconds after which a paused backfill resumes by itself; "
                  "0: never");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (*scan) return Scan(scan_disk);
  if (driver.disk.empty() && !options.scan) {
    std::cerr << "streamd: run: say --disk DEVICE or --scan\n";
    return 2;
  }
  return Run(std::move(options), argv);
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) { return bootstream::Main(argc, argv); }
