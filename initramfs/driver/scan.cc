#include "initramfs/driver/scan.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "blockmap/base/posix_block_device.h"
#include "blockmap/disk/disk_serial.h"
#include "blockmap/disk/find_migration.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 8> kVirtual{
    "loop", "ram", "zram", "nbd", "dm-", "md", "sr", "fd"};

bool IsVirtual(const std::string& name) {
  return std::any_of(kVirtual.begin(), kVirtual.end(), [&](auto prefix) {
    return name.rfind(prefix, 0) == 0;
  });
}

std::string FirstLine(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

Result<FoundMigration> ScanOne(const std::string& disk) {
  auto device = PosixBlockDevice::Open(disk, OpenMode::kReadOnly);
  if (!device) return device.error();
  return RunInline(FindMigration(*device, DiskSerialSha256(disk)));
}

}  // namespace

std::vector<std::string> InternalDisks() {
  std::vector<std::string> disks;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/sys/block", error)) {
    const std::string name = entry.path().filename();
    if (IsVirtual(name) || FirstLine(entry.path() / "size") == "0") continue;
    if (FirstLine(entry.path() / "removable") == "1") continue;
    disks.push_back("/dev/" + name);
  }
  std::sort(disks.begin(), disks.end());
  return disks;
}

Result<ScanResult> ScanDisks(const std::vector<std::string>& disks) {
  ScanResult result;
  for (const std::string& disk : disks) {
    auto found = ScanOne(disk);
    if (!found && found.error().code == ErrorCode::kIo) {
      result.warnings.push_back(found.error().message);
      continue;
    }
    if (!found) return Annotate(found.error(), disk);
    for (const std::string& warning : found->warnings) {
      result.warnings.push_back(disk + ": " + warning);
    }
    if (!found->superblock) continue;
    if (result.superblock) {
      return Error{ErrorCode::kRefused, "both " + result.disk + " and " + disk +
                                            " are under migration: remove one "
                                            "of the disks and start again"};
    }
    result.disk = disk;
    result.superblock = std::move(found->superblock);
    result.by_stub = found->by_stub;
  }
  return result;
}

}  // namespace bootstream
