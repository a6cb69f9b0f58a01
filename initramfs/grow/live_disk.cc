#include "initramfs/grow/live_disk.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include "blockmap/base/types.h"
#include "initramfs/system/mounts.h"
#include "initramfs/takeover/device_mapper.h"
#include "initramfs/takeover/udev_state.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

constexpr char kMappedPrefix[] = "bootstream";
constexpr char kClaimName[] = "bootstream-disk";

// The first word of a small file of sysfs; empty: there is none.
std::string WordOf(const fs::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error);
       !error && entry != fs::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename());
  }
  return names;
}

// Where sysfs has the block device.
Result<fs::path> SysfsOf(dev_t device) {
  const std::string link = "/sys/dev/block/" + std::to_string(major(device)) +
                           ":" + std::to_string(minor(device));
  std::error_code error;
  fs::path path = fs::canonical(link, error);
  if (error) return ErrnoError(error.value(), link);
  return path;
}

bool IsOurs(const std::string& mapped) {
  return mapped.starts_with(kMappedPrefix) && mapped != kClaimName;
}

// The disk's kernel name, for one of its partitions.
Result<std::string> DiskNameOf(const fs::path& partition) {
  std::error_code error;
  if (fs::exists(partition / "partition", error)) {
    return partition.parent_path().filename().string();
  }
  const auto below = NamesIn(partition / "slaves");
  if (IsOurs(WordOf(partition / "dm/name")) && below.size() == 1) {
    return below.front();
  }
  return Error{ErrorCode::kUnsupported,
               "the file system lies on " + partition.filename().string() +
                   ", which is no partition of a disk; it is not grown"};
}

Result<dev_t> DeviceMountedAt(const std::string& mount_point) {
  const auto mounts = ReadMounts();
  if (!mounts) return mounts.error();
  const auto last = std::find_if(
      mounts->rbegin(), mounts->rend(),
      [&](const MountPoint& mount) { return mount.where == mount_point; });
  if (last == mounts->rend()) {
    return Error{ErrorCode::kNotFound,
                 "no file system is mounted at " + mount_point};
  }
  if (major(last->device) == 0) {
    return Error{ErrorCode::kNotFound, "the file system at " + mount_point +
                                           " (" + last->type +
                                           ") does not lie on a disk"};
  }
  return last->device;
}

Status AddPlain(LiveDisk& disk) {
  const fs::path folder = "/sys/class/block/" + disk.node.name;
  for (const std::string& name : NamesIn(folder)) {
    const std::string number = WordOf(folder / name / "partition");
    const std::string start = WordOf(folder / name / "start");
    if (number.empty() || start.empty()) continue;
    auto node = FindBlockNode("/dev/" + name);
    if (!node) return node.error();
    disk.partitions.push_back({std::move(*node),
                               std::stoull(start) * kSectorBytes,
                               std::stoi(number),
                               {}});
  }
  return OkStatus();
}

Status AddMapped(LiveDisk& disk) {
  const fs::path folder = "/sys/class/block/" + disk.node.name + "/holders";
  std::optional<std::vector<LinearDevice>> linear;
  for (const std::string& name : NamesIn(folder)) {
    const std::string mapped = WordOf(folder / name / "dm/name");
    if (!IsOurs(mapped)) continue;
    if (!linear) {
      auto found = LinearDevicesOver(disk.node.number);
      if (!found) return found.error();
      linear = std::move(*found);
    }
    const auto device = std::ranges::find(*linear, mapped, &LinearDevice::name);
    if (device == linear->end()) continue;
    auto node = FindBlockNode("/dev/" + name);
    if (!node) return node.error();
    disk.partitions.push_back(
        {std::move(*node), device->start_bytes, 0, mapped});
  }
  return OkStatus();
}

}  // namespace

const LivePartition* LiveDisk::StartingAt(uint64_t start_bytes) const {
  const auto found =
      std::ranges::find(partitions, start_bytes, &LivePartition::start_bytes);
  return found == partitions.end() ? nullptr : &*found;
}

Result<LiveDisk> FindDiskBelow(const std::string& mount_point) {
  const auto device = DeviceMountedAt(mount_point);
  if (!device) return device.error();
  const auto partition = SysfsOf(*device);
  if (!partition) return partition.error();
  const auto name = DiskNameOf(*partition);
  if (!name) return name.error();
  if (const auto links = ReadUdevLinks(*name);
      links || links.error().code != ErrorCode::kNotFound) {
    return Error{ErrorCode::kRefused,
                 *name +
                     " is streamed: it can be grown when the driver has "
                     "left (streamctl wait detached)"};
  }
  LiveDisk disk;
  auto node = FindBlockNode("/dev/" + *name);
  if (!node) return node.error();
  disk.node = std::move(*node);
  if (auto s = AddPlain(disk); !s) return s.error();
  if (auto s = AddMapped(disk); !s) return s.error();
  return disk;
}

Status ResizeLivePartition(const LiveDisk& disk, const LivePartition& partition,
                           uint64_t size_bytes) {
  Status status;
  if (partition.mapped.empty()) {
    status = ResizeKernelPartition(disk.node, partition.number,
                                   partition.start_bytes, size_bytes);
  } else {
    status = ResizeLinearDevice({.name = partition.mapped,
                                 .uuid = {},
                                 .below = disk.node.number,
                                 .start_bytes = partition.start_bytes,
                                 .size_bytes = size_bytes,
                                 .hidden = false});
  }
  if (!status) return status;
  const auto now = FindBlockNode(partition.node.path);
  if (!now) return now.error();
  if (now->size_bytes == size_bytes) return OkStatus();
  return Error{ErrorCode::kIo,
               partition.node.path + " has " + std::to_string(now->size_bytes) +
                   " bytes instead of " + std::to_string(size_bytes)};
}

}  // namespace bootstream
