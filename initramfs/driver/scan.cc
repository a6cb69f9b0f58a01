#include "initramfs/driver/scan.h"

#include "blockmap/base/posix_block_device.h"
#include "blockmap/disk/disk_serial.h"
#include "blockmap/disk/find_migration.h"

namespace bootstream {
namespace {

Result<FoundMigration> ScanOne(const std::string& disk) {
  auto device = PosixBlockDevice::Open(disk, OpenMode::kReadOnly);
  if (!device) return device.error();
  return RunInline(FindMigration(*device, DiskSerialSha256(disk)));
}

}  // namespace

Result<ScanResult> ScanDisks(const std::vector<std::string>& disks) {
  ScanResult result;
  std::optional<Error> doubt;
  for (const std::string& disk : disks) {
    auto found = ScanOne(disk);
    if (!found && found.error().code == ErrorCode::kIo) {
      result.warnings.push_back(found.error().message);
      continue;
    }
    if (!found) return Annotate(found.error(), disk);
    for (const std::string& warning : found->warnings) {
      result.warnings.push_back(std::string(disk).append(": ").append(warning));
    }
    // No reason to stop if another disk is the one that is streamed.
    if (found->doubt) {
      doubt = Annotate(*found->doubt, disk);
      result.warnings.push_back(doubt->message);
    }
    if (!found->superblock && !found->leaving) continue;
    if (!result.disk.empty()) {
      return Error{ErrorCode::kRefused, "both " + result.disk + " and " + disk +
                                            " are under migration: remove one "
                                            "of the disks and start again"};
    }
    result.disk = disk;
    result.superblock = std::move(found->superblock);
    result.by_stub = found->by_stub;
    result.leaving = found->leaving.has_value();
  }
  if (result.disk.empty() && doubt) return *doubt;
  return result;
}

}  // namespace bootstream
