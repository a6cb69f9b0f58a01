#include "initramfs/takeover/takeover.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "initramfs/takeover/device_mapper.h"
#include "initramfs/takeover/kernel_partitions.h"
#include "initramfs/takeover/streamed_partitions.h"
#include "initramfs/takeover/udev_state.h"

namespace bootstream {
namespace {

constexpr char kClaimName[] = "bootstream-disk";

std::string PartitionName(int number) {
  return "bootstream" + std::to_string(number);
}

// The links that lead to partition `number` of a disk with `links`.
std::vector<std::string> PartitionLinks(const std::vector<std::string>& links,
                                        int number) {
  std::vector<std::string> result;
  for (const std::string& link : links) {
    result.push_back(link + "-part" + std::to_string(number));
  }
  return result;
}

// Note the disk's links for those who come after it, and have udev forget it.
Status HideDisk(const BlockNode& disk) {
  Result<std::vector<std::string>> links = ReadUdevLinks(disk.name);
  if (!links) links = StableLinks(disk);
  if (!links) return links.error();
  if (auto s = WriteUdevRole(disk.name, "disk", *links); !s) return s;
  if (auto s = WriteUdevRole(kClaimName, "claim", {}); !s) return s;
  return RefreshUdev(disk);
}

Result<ClaimedDisk> OpenClaim(const BlockNode& claim) {
  ClaimedDisk result;
  result.path = claim.path;
  result.size_bytes = claim.size_bytes;
  result.fd = UniqueFd(open(claim.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  if (!result.fd) return ErrnoError(errno, "open the claim " + claim.path);
  return result;
}

}  // namespace

Result<ClaimedDisk> ClaimDisk(const std::string& disk) {
  Result<BlockNode> raw = FindBlockNode(disk);
  if (!raw) return raw.error();
  if (raw->size_bytes == 0) {
    return Error{ErrorCode::kIo, disk + " has no size"};
  }
  if (auto hidden = HideDisk(*raw); !hidden) return hidden.error();
  if (auto dropped = DropKernelPartitions(*raw); !dropped) {
    return dropped.error();
  }
  Result<BlockNode> claim = MakeLinearDevice({.name = kClaimName,
                                              .uuid = "BOOTSTREAM-disk",
                                              .below = raw->number,
                                              .start_bytes = 0,
                                              .size_bytes = raw->size_bytes,
                                              .hidden = true});
  if (!claim) return Annotate(claim.error(), "claim " + disk);
  // Somebody may have had the table read again before the claim stood.
  if (auto dropped = DropKernelPartitions(*raw); !dropped) {
    return dropped.error();
  }
  return OpenClaim(*claim);
}

Result<std::vector<MappedPartition>> MapPartitions(
    const std::string& disk, const std::string& streamed) {
  const Result<BlockNode> raw = FindBlockNode(disk);
  if (!raw) return raw.error();
  const Result<BlockNode> below = FindBlockNode(streamed);
  if (!below) return below.error();
  if (below->size_bytes == 0) {
    return Error{ErrorCode::kIo, streamed + " is not connected: its size is 0"};
  }
  const Result<std::vector<std::string>> links = ReadUdevLinks(raw->name);
  if (!links) return links.error();
  const auto partitions = ReadStreamedPartitions(below->path);
  if (!partitions) return partitions.error();

  if (auto s = WriteUdevRole(below->name, "streamed", *links); !s) {
    return s.error();
  }
  if (auto s = RefreshUdev(*below); !s) return s.error();
  if (auto s = DropKernelPartitions(*below); !s) return s.error();
  std::vector<MappedPartition> mapped;
  for (const StreamedPartition& partition : *partitions) {
    const std::string name = PartitionName(partition.number);
    if (auto s = WriteUdevRole(name, "partition",
                               PartitionLinks(*links, partition.number));
        !s) {
      return s.error();
    }
    // libblkid knows a partition's table entry, and so udev its by-partuuid
    // and by-partlabel links, by this form of the uuid (kpartx's).
    const Result<BlockNode> node = MakeLinearDevice(
        {.name = name,
         .uuid = "part" + std::to_string(partition.number) + "-BOOTSTREAM",
         .below = below->number,
         .start_bytes = partition.start_bytes,
         .size_bytes = partition.size_bytes});
    if (!node) return Annotate(node.error(), "map partitions of " + streamed);
    mapped.push_back({partition.number, "/dev/mapper/" + name, node->path});
  }
  return mapped;
}

Status UnmapPartitions(const std::string& streamed) {
  const Result<BlockNode> below = FindBlockNode(streamed);
  if (!below) return below.error();
  const auto partitions = ReadStreamedPartitions(below->path);
  if (!partitions) return partitions.error();
  for (const StreamedPartition& partition : *partitions) {
    const std::string name = PartitionName(partition.number);
    if (auto s = RemoveLinearDevice(name); !s) return s;
    RemoveUdevRole(name);
  }
  RemoveUdevRole(below->name);
  return RefreshUdev(*below);
}

Status ReleaseDisk(const std::string& disk) {
  const Result<BlockNode> raw = FindBlockNode(disk);
  if (!raw) return raw.error();
  if (auto s = RemoveLinearDevice(kClaimName); !s) return s;
  RemoveUdevRole(kClaimName);
  RemoveUdevRole(raw->name);
  UniqueFd fd(open(raw->path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + disk);
  if (ioctl(fd.get(), BLKRRPART, 0) != 0) {
    return ErrnoError(errno, "read the partition table of " + disk);
  }
  return RefreshUdev(*raw);
}

Result<PartitionSwap> PartitionSwap::Prepare(const std::string& disk,
                                             const std::string& streamed) {
  const UniqueFd whole(open(streamed.c_str(), O_RDONLY | O_CLOEXEC));
  if (!whole || fsync(whole.get()) != 0) {
    return ErrnoError(errno, "flush " + streamed);
  }
  return Load(disk, streamed);
}

Result<PartitionSwap> PartitionSwap::Load(const std::string& disk,
                                          const std::string& streamed) {
  const Result<BlockNode> raw = FindBlockNode(disk);
  if (!raw) return raw.error();
  const Result<BlockNode> below = FindBlockNode(streamed);
  if (!below) return below.error();
  auto devices = LinearDevicesOver(below->number);
  if (!devices) return devices.error();
  PartitionSwap swap;
  for (LinearDevice& device : *devices) {
    device.below = raw->number;
    swap.devices_.push_back(device.name);
    if (auto s = LoadLinearTable(device); !s) return s.error();
  }
  return swap;
}

PartitionSwap::~PartitionSwap() { (void)Undo(); }

Status PartitionSwap::Suspend() {
  for (; suspended_ < devices_.size(); ++suspended_) {
    if (auto s = SuspendDevice(devices_[suspended_]); !s) return s;
  }
  return OkStatus();
}

Status PartitionSwap::Finish() {
  Status status;
  for (const std::string& name : devices_) {
    const Status resumed = ResumeDevice(name);
    if (!resumed) status = resumed;
  }
  devices_.clear();
  return status;
}

Status PartitionSwap::Undo() {
  for (const std::string& name : devices_) {
    if (auto s = ClearLinearTable(name); !s) return s;
  }
  return Finish();
}

Status EndSwap(const std::string& disk, const std::string& streamed,
               bool over_raw_disk) {
  if (access(streamed.c_str(), F_OK) != 0) {
    return Error{ErrorCode::kNotFound, streamed + " is not there any more"};
  }
  // Nobody may be there to answer a flush.
  auto swap = PartitionSwap::Load(disk, streamed);
  if (!swap) return swap.error();
  return over_raw_disk ? swap->Finish() : swap->Undo();
}

Status GiveDiskBack(const std::string& disk, const std::string& streamed) {
  const Result<BlockNode> raw = FindBlockNode(disk);
  if (!raw) return raw.error();
  const UniqueFd fd(open(raw->path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || ioctl(fd.get(), BLKFLSBUF, 0) != 0) {
    return ErrnoError(errno, "drop the buffers of " + disk);
  }
  if (auto s = RemoveWhenClosed(kClaimName); !s) return s;
  RemoveUdevRole(kClaimName);
  RemoveUdevRole(std::filesystem::path(streamed).filename());
  RemoveUdevRole(raw->name);
  return RefreshUdev(*raw);
}

}  // namespace bootstream
