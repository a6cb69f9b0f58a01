#include "initramfs/takeover/kernel_partitions.h"

#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

// udev and whoever it told may still be looking at a partition that has just
// appeared; longer than this is somebody who uses it.
constexpr std::chrono::seconds kBusyWait{10};

Status DropPartition(int disk_fd, const std::string& name, int number) {
  blkpg_partition partition = {};
  partition.pno = number;
  blkpg_ioctl_arg argument = {};
  argument.op = BLKPG_DEL_PARTITION;
  argument.datalen = sizeof(partition);
  argument.data = &partition;
  const auto deadline = std::chrono::steady_clock::now() + kBusyWait;
  while (ioctl(disk_fd, BLKPG, &argument) != 0) {
    if (errno == ENXIO) return OkStatus();
    if (errno != EBUSY) return ErrnoError(errno, "drop partition of " + name);
    if (std::chrono::steady_clock::now() > deadline) {
      return Error{ErrorCode::kRefused,
                   name + ": partition " + std::to_string(number) +
                       " is in use (mounted, swap, RAID or LVM); it cannot be "
                       "taken over"};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return OkStatus();
}

}  // namespace

Result<BlockNode> FindBlockNode(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return ErrnoError(errno, "open " + path);
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return ErrnoError(errno, "stat " + path);
  if (!S_ISBLK(status.st_mode)) {
    return Error{ErrorCode::kInvalid, path + " is not a block device"};
  }
  BlockNode node;
  node.number = status.st_rdev;
  if (ioctl(fd.get(), BLKGETSIZE64, &node.size_bytes) != 0) {
    return ErrnoError(errno, "size of " + path);
  }
  const std::string link = "/sys/dev/block/" +
                           std::to_string(major(node.number)) + ":" +
                           std::to_string(minor(node.number));
  std::error_code error;
  node.name = std::filesystem::canonical(link, error).filename();
  if (error) return ErrnoError(error.value(), link);
  node.path = "/dev/" + node.name;
  return node;
}

Result<std::vector<int>> KernelPartitions(const BlockNode& disk) {
  std::vector<int> numbers;
  std::error_code error;
  std::filesystem::directory_iterator entry("/sys/class/block/" + disk.name,
                                            error);
  for (; !error && entry != std::filesystem::directory_iterator();
       entry.increment(error)) {
    std::ifstream file(entry->path() / "partition");
    int number = 0;
    if (file >> number) numbers.push_back(number);
  }
  if (error) return ErrnoError(error.value(), "partitions of " + disk.path);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

Status ResizeKernelPartition(const BlockNode& disk, int number,
                             uint64_t start_bytes, uint64_t size_bytes) {
  UniqueFd fd(open(disk.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + disk.path);
  blkpg_partition partition = {};
  partition.pno = number;
  partition.start = static_cast<long long>(start_bytes);
  partition.length = static_cast<long long>(size_bytes);
  blkpg_ioctl_arg argument = {};
  argument.op = BLKPG_RESIZE_PARTITION;
  argument.datalen = sizeof(partition);
  argument.data = &partition;
  if (ioctl(fd.get(), BLKPG, &argument) != 0) {
    return ErrnoError(errno, "resize partition " + std::to_string(number) +
                                 " of " + disk.path);
  }
  return OkStatus();
}

Status DropKernelPartitions(const BlockNode& disk) {
  UniqueFd fd(open(disk.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + disk.path);
  Result<std::vector<int>> numbers = KernelPartitions(disk);
  if (!numbers) return numbers.error();
  for (const int number : *numbers) {
    if (auto dropped = DropPartition(fd.get(), disk.path, number); !dropped) {
      return dropped;
    }
  }
  numbers = KernelPartitions(disk);
  if (!numbers) return numbers.error();
  if (!numbers->empty()) {
    return Error{ErrorCode::kRefused,
                 disk.path + ": partitions came back after they were dropped"};
  }
  return OkStatus();
}

}  // namespace bootstream
