#include "initramfs/takeover/streamed_partitions.h"

#include <blkid.h>

#include <cerrno>
#include <memory>

#include "blockmap/base/types.h"

namespace bootstream {
namespace {

using Probe = std::unique_ptr<blkid_struct_probe, decltype(&blkid_free_probe)>;

}  // namespace

Result<std::vector<StreamedPartition>> ReadStreamedPartitions(
    const std::string& path) {
  errno = 0;
  const Probe probe(blkid_new_probe_from_filename(path.c_str()),
                    blkid_free_probe);
  if (!probe) return ErrnoError(errno != 0 ? errno : EIO, "open " + path);
  blkid_partlist list = blkid_probe_get_partitions(probe.get());
  if (list == nullptr || blkid_partlist_get_table(list) == nullptr) {
    return Error{ErrorCode::kNotFound, path + ": no partition table"};
  }
  const uint64_t sectors = blkid_probe_get_size(probe.get()) / kSectorBytes;
  std::vector<StreamedPartition> partitions;
  for (int i = 0; i < blkid_partlist_numof_partitions(list); ++i) {
    blkid_partition entry = blkid_partlist_get_partition(list, i);
    if (entry == nullptr) return ErrnoError(ENOMEM, path);
    if (blkid_partition_is_extended(entry)) continue;
    const auto start = static_cast<uint64_t>(blkid_partition_get_start(entry));
    const auto size = static_cast<uint64_t>(blkid_partition_get_size(entry));
    const int number = blkid_partition_get_partno(entry);
    if (size == 0 || start > sectors || size > sectors - start) {
      return Error{ErrorCode::kCorrupt, path + ": partition " +
                                            std::to_string(number) +
                                            " does not lie in the device"};
    }
    partitions.push_back({number, start * kSectorBytes, size * kSectorBytes});
  }
  return partitions;
}

}  // namespace bootstream
