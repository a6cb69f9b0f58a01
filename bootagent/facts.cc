#include "bootagent/facts.h"

#include "blockmap/disk/file_extents.h"

namespace bootstream {

Task<Result<Facts>> GatherFacts(const Job& job, const std::string& serial,
                                uint64_t manifest_bytes) {
  auto disk = co_await ProbeDisk(job.disk, job.device, serial);
  if (!disk) co_return disk.error();
  Facts facts;
  facts.manifest_bytes = manifest_bytes;
  for (const ProbedPartition& partition : disk->partitions) {
    if (!partition.ext) continue;
    const ByteExtent extent = partition.partition.extent;
    const auto extents = FileExtents(job.disk, extent, kRegionFileName);
    if (!extents) continue;
    uint64_t size = 0;
    for (const ByteExtent& piece : *extents) size += piece.size;
    facts.region_files.push_back({extent.offset, size});
  }
  facts.disk = std::move(*disk);
  co_return facts;
}

}  // namespace bootstream
