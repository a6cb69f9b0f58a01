#include "bootagent/facts.h"

#include <fstream>

#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/user_data.h"
#include "bootagent/image_table.h"

namespace bootstream {
namespace {

// What the kernel says could be used without swapping (proc(5)).
uint64_t AvailableMemory() {
  std::ifstream in("/proc/meminfo");
  std::string name;
  uint64_t kib = 0;
  while (in >> name >> kib) {
    if (name == "MemAvailable:") return kib * 1024;
    std::getline(in, name);
  }
  return ~uint64_t{0};
}

// What cannot be measured is no reason to refuse.
UserSpace MeasureUsers(const ProbedDisk& disk) {
  std::vector<ByteExtent> partitions;
  for (const ProbedPartition& partition : disk.partitions) {
    if (partition.ext) partitions.push_back(partition.partition.extent);
  }
  UserSpace users;
  const auto measured = MeasureUserData(disk.path, partitions);
  if (measured) {
    users.user_bytes = measured->bytes;
  } else {
    users.unknown =
        "the users' folders of the old system could not be "
        "measured: " +
        measured.error().message;
  }
  return users;
}

}  // namespace

Task<Result<Facts>> GatherFacts(const Job& job, const std::string& serial,
                                const ManifestFile& image, ImageAccess& access,
                                const std::vector<std::string>& known_servers) {
  auto disk = co_await ProbeDisk(job.disk, job.device, serial);
  if (!disk) co_return disk.error();
  Facts facts;
  facts.manifest_bytes = image.file.size();
  facts.memory_bytes = AvailableMemory();
  // A disk that is refused whatever the image is not looked at more closely.
  if (auto s = CheckDisk(*disk); !s) co_return s.error();
  for (const ProbedPartition& partition : disk->partitions) {
    if (!partition.ext || !partition.ext->has_extents) continue;
    const ByteExtent extent = partition.partition.extent;
    auto space = ReadExtSpace(job.disk, extent, kRegionFileName);
    if (!space) co_return space.error();
    facts.spaces.push_back({extent.offset, std::move(*space)});
  }
  facts.users = MeasureUsers(*disk);
  facts.disk = std::move(*disk);
  const auto source = access.Source(image.manifest, known_servers);
  if (!source) co_return source.error();
  auto table = co_await ReadImageTable(*image.manifest, **source);
  if (!table) co_return table.error();
  facts.image_table = std::move(*table);
  const auto free =
      co_await ReadImageFreeBytes(*image.manifest, facts.image_table, **source);
  if (free) facts.users.image_free_bytes = *free;
  if (facts.users.unknown.empty() && !facts.users.image_free_bytes) {
    facts.users.unknown =
        free ? "how much is free in the new system is known of ext file "
               "systems only"
             : "how much is free in the new system could not be read: " +
                   free.error().message;
  }
  co_return facts;
}

}  // namespace bootstream
