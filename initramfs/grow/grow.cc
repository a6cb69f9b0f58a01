#include "initramfs/grow/grow.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <vector>

#include "blockmap/base/posix_block_device.h"
#include "initramfs/system/mounts.h"
#include "initramfs/grow/table_growth.h"
#include "initramfs/system/run_program.h"

namespace bootstream {
namespace {

// The raw disk below file systems that are in use, past the page cache.  Its
// lock keeps udev, and a second one of us, from looking at a table that is half
// written (systemd.io/BLOCK_DEVICE_LOCKING).
Result<PosixBlockDevice> OpenTable(const LiveDisk& disk, GrowMode mode) {
  const int access = mode == GrowMode::kDo ? O_RDWR : O_RDONLY;
  UniqueFd fd(::open(disk.node.path.c_str(), access | O_DIRECT | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + disk.node.path);
  int sector_bytes = 0;
  if (::ioctl(fd.get(), BLKSSZGET, &sector_bytes) != 0 ||
      sector_bytes != static_cast<int>(kSectorBytes)) {
    return Error{ErrorCode::kUnsupported, disk.node.path + " has sectors of " +
                                              std::to_string(sector_bytes) +
                                              " bytes; 512 are supported"};
  }
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return ErrnoError(errno, "lock " + disk.node.path);
  }
  return PosixBlockDevice::Adopt(std::move(fd));
}

bool CanGrow(const std::string& type) {
  return type == "ext4" || type == "xfs" || type == "btrfs";
}

// Where the last partition's file system is, or why it is left alone.
Status LookAtLast(const LivePartition* live, GrowReport& report) {
  const std::string name = "partition " + std::to_string(report.partition);
  if (live == nullptr) {
    report.left_alone = "the kernel does not have " + name;
    return OkStatus();
  }
  report.partition_bytes_before = live->node.size_bytes;
  const auto mounts = ReadMounts();
  if (!mounts) return mounts.error();
  const auto mount =
      std::ranges::find(*mounts, live->node.number, &MountPoint::device);
  if (mount == mounts->end()) {
    report.left_alone =
        name + " (" + live->node.path + ") has no file system that is mounted";
    return OkStatus();
  }
  report.file_system = mount->type;
  report.mounted_at = mount->where;
  if (!CanGrow(mount->type)) {
    report.left_alone =
        name + " is " + mount->type + ", which does not grow while mounted";
  }
  return OkStatus();
}

uint64_t FileSystemBytes(const std::string& directory) {
  struct statvfs facts {};
  if (::statvfs(directory.c_str(), &facts) != 0) return 0;
  return uint64_t{facts.f_blocks} * facts.f_frsize;
}

// Each says so, and no more, if there is nothing to grow.
std::vector<std::string> ToolFor(const GrowReport& report,
                                 const LivePartition& live) {
  if (report.file_system == "ext4") return {"resize2fs", live.node.path};
  if (report.file_system == "xfs") return {"xfs_growfs", report.mounted_at};
  return {"btrfs", "filesystem", "resize", "max", report.mounted_at};
}

Status GrowFileSystem(const LivePartition& live, GrowReport& report) {
  const auto command = ToolFor(report, live);
  const auto run = RunForOutput(command);
  if (!run) return run.error();
  std::cerr << run->output << std::flush;
  if (run->exit_code != 0) {
    return Error{ErrorCode::kIo, command.front() + " ended with " +
                                     std::to_string(run->exit_code) + " for " +
                                     report.mounted_at +
                                     "; it can be tried again"};
  }
  report.file_system_bytes = FileSystemBytes(report.mounted_at);
  return OkStatus();
}

// From here on the table is durable.
Status GrowLive(const LiveDisk& disk, const LivePartition& live,
                GrowReport& report) {
  if (live.node.size_bytes > report.partition_bytes) {
    return Error{ErrorCode::kCorrupt,
                 live.node.path + " is larger than its entry in the table"};
  }
  if (live.node.size_bytes < report.partition_bytes) {
    auto resized = ResizeLivePartition(disk, live, report.partition_bytes);
    if (!resized) return resized;
  }
  return GrowFileSystem(live, report);
}

}  // namespace

Result<GrowReport> GrowDisk(const LiveDisk& disk, GrowMode mode) {
  GrowReport report;
  report.disk = disk.node.path;
  report.disk_bytes = disk.node.size_bytes;
  auto device = OpenTable(disk, mode);
  if (!device) return device.error();
  const auto table = RunInline(ReadTableToGrow(*device));
  if (!table) return Annotate(table.error(), report.disk);
  const LivePartition* live = nullptr;
  if (const Partition* last = table->last(); last != nullptr) {
    report.partition = last->number;
    live = disk.StartingAt(last->extent.offset);
    if (auto s = LookAtLast(live, report); !s) return s.error();
  } else {
    report.left_alone = "there is no partition";
  }
  const bool grows = report.left_alone.empty();
  const auto growth = PlanTableGrowth(*table, grows);
  if (!growth) return Annotate(growth.error(), report.disk);
  report.partition_bytes = growth->last.size;
  const auto grown = RunInline(IsGrown(*device, *growth));
  if (!grown) return grown.error();
  report.table_grows = !*grown;
  if (grows) {
    report.file_system_bytes_before = FileSystemBytes(report.mounted_at);
    report.file_system_bytes = report.file_system_bytes_before;
  }
  if (mode == GrowMode::kDryRun) return report;
  if (report.table_grows) {
    auto written = RunInline(WriteTableGrowth(*device, *growth));
    if (!written) return Annotate(written.error(), report.disk);
  }
  if (!grows) return report;
  if (auto s = GrowLive(disk, *live, report); !s) return s.error();
  return report;
}

}  // namespace bootstream
