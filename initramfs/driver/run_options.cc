#include "initramfs/driver/run_options.h"

#include <map>

namespace bootstream {

void AddRunOptions(CLI::App& run, RunOptions& options) {
  DriverOptions& driver = options.driver;
  auto* disk = run.add_option("--disk", driver.disk, "Disk or disk file");
  run.add_flag("--scan", options.scan, "Find the disk")->excludes(disk);
  const std::map<std::string, FrontendKind> kinds{
      {"socket", FrontendKind::kSocket},
      {"nbd", FrontendKind::kNbd},
      {"ublk", FrontendKind::kUblk},
      {"fuse", FrontendKind::kFuse},
      {"auto", FrontendKind::kAuto}};
  run.add_option("--frontend", driver.frontend,
                  "socket: NBD on a Unix socket; ublk: the kernel's "
                  "/dev/ublkbN (Linux 6.5); nbd: its /dev/nbdN; fuse: a file "
                  "with a loop device on it; auto: the first of ublk, nbd and "
                  "fuse that the kernel has")
      ->required()
      ->transform(CLI::CheckedTransformer(kinds));
  run.add_option("--socket", driver.socket, "Path for --frontend socket")
      ->capture_default_str();
  run.add_option("--mount", driver.mount_directory,
                  "Directory for --frontend fuse")
      ->capture_default_str();
  run.add_option("--source-socket", driver.source_socket,
                  "Path for the old system's disk when it is attached, for "
                  "--frontend socket")
      ->capture_default_str();
  run.add_option("--source-mount", driver.source_mount_directory,
                  "Directory for it, for --frontend fuse")
      ->capture_default_str();
  run.add_option("--boot-socket", driver.boot_socket,
                  "Path for the disk as the boot loader will see it, when "
                  "'streamctl closure' asks for it, for --frontend socket")
      ->capture_default_str();
  run.add_option("--boot-mount", driver.boot_mount_directory,
                  "Directory for it, for --frontend fuse")
      ->capture_default_str();
  run.add_option("--control", driver.control, "Control socket")
      ->capture_default_str();
  run.add_option("--status-file", driver.status_file)->capture_default_str();
  run.add_option("--pubkey", driver.public_key,
                  "PEM key that the manifest must be signed with")
      ->capture_default_str();
  run.add_option("--ca", driver.ca,
                  "PEM file of the authorities that may have signed a server's "
                  "certificate, and no others");
  run.add_option("--url", driver.urls,
                  "Image server, instead of those recorded on the disk");
  run.add_flag("--read-only", driver.read_only,
                "Write nothing to the disk; what is missing is not kept");
  run.add_flag("--takeover", options.takeover,
                "Hide the raw disk and map the image's partitions");
  run.add_flag("--daemonize", options.daemonize,
                "Go into the background when the device is there");
  run.add_flag("--keep", options.keep,
                "Start the driver again when it dies, and go on with the same "
                "device; --takeover and --daemonize do that too");
  run.add_flag("--lock-memory", options.lock_memory,
                "Keep all of the driver in memory; --takeover does that too");
  run.add_option("--root", options.root,
                  "Make this the root directory when the device is there: the "
                  "initramfs is emptied, and name resolution and certificates "
                  "are still to be found");
  run.add_flag("--backfill-paused", options.backfill_paused,
                "Fetch only what is read until 'streamctl backfill resume'");
  run.add_option("--resume-after", options.resume_after_seconds,
                  "Seconds after which a paused backfill resumes by itself, as "
                  "soon as nothing new has been read for half a minute; 0: "
                  "never");
  run.add_option(
      "--start-jitter", options.start_jitter_seconds,
      "A backfill that begins or resumes by itself does so up to so "
      "many seconds later, at random");
  run.add_option(
         "--yield-at", driver.backfill.yield.busy_percent,
         "Backfill gives way while reads and writes keep the disk busy "
         "for so many percent of the time; 0: never")
      ->capture_default_str()
      ->check(CLI::Range(0, 100));
  run.add_flag("--no-prefetch", driver.prefetch.off,
                "Do not fetch what the watched boot of this image has read "
                "before it is read");
  run.add_option("--read-ahead", driver.read_ahead_bytes,
                  "What is read in sequence is fetched so many bytes ahead; "
                  "0: nothing is")
      ->capture_default_str()
      ->transform(CLI::AsSizeValue(false));
  run.add_option("--stall-timeout-ms", options.stall_timeout_ms)->group("");
  run.add_option("--back-off-max-ms", options.back_off_max_ms)->group("");
}

}  // namespace bootstream
