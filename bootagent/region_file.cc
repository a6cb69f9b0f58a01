#include "bootagent/region_file.h"

#include <algorithm>
#include <utility>

#include "blockmap/disk/file_extents.h"
#include "blockmap/image/image_facts.h"

namespace bootstream {
namespace {

// Whole chunks of the region file that may be ours, in file order: all but the
// one that the anchor takes, which is relocated like any other.
RegionFile FileOf(std::vector<ByteExtent> extents, const Plan& plan) {
  RegionFile file;
  file.chunks = WholeChunks(extents, plan.disk_grid);
  std::erase(file.chunks, plan.anchor_chunk());
  file.extents = std::move(extents);
  return file;
}

std::vector<ByteExtent> BytesOf(const std::vector<DiskChunk>& chunks,
                                const Grid& grid) {
  std::vector<ByteExtent> extents;
  for (const DiskExtent& extent : ToExtents(chunks)) {
    extents.push_back(
        {grid.offset_of(extent.first), extent.count * grid.chunk_bytes});
  }
  return extents;
}

Result<RegionFile> TakeAllAndTrim(const Job& job, const Plan& plan,
                                  const Manifest& manifest) {
  auto all = AllocateAll(job.disk, plan.source_extent, kRegionFileName);
  if (!all) return all.error();
  const RegionFile full = FileOf(std::move(*all), plan);
  const auto best = BestChunks(plan, manifest, full.chunks);
  auto extents = TrimFile(job.disk, plan.source_extent, kRegionFileName,
                          BytesOf(best, plan.disk_grid));
  if (!extents) return extents.error();
  return FileOf(std::move(*extents), plan);
}

// What a chunk is worth to CheckRegion: one at a boot chunk's home need be
// neither staged nor relocated, one at another kept home holds nothing else.
int Worth(const Plan& plan, const Manifest& manifest, DiskChunk chunk) {
  const ImageChunk image{chunk.value};
  if (chunk.value >= plan.image.chunk_count()) return 1;
  if (manifest.InBootSet(image)) return 2;
  return IsKept(manifest, image) ? 0 : 1;
}

}  // namespace

Result<RegionFile> AllocateRegion(const Job& job, const Plan& plan,
                                  const Manifest& manifest) {
  const uint64_t most = plan.region_file_bytes_max;
  uint64_t bytes = std::min(plan.region_file_bytes, most);
  for (;;) {
    auto extents =
        AllocateFile(job.disk, plan.source_extent, kRegionFileName, bytes);
    if (!extents) return extents.error();
    RegionFile file = FileOf(std::move(*extents), plan);
    if (CheckRegion(plan, manifest, ToExtents(file.chunks))) return file;
    if (bytes == most) break;
    // An extent loses up to a chunk at each edge.
    const uint64_t more =
        (file.extents.size() + 16) * 2 * uint64_t{plan.disk_grid.chunk_bytes};
    bytes = std::min(most, bytes + std::max(more, (most - bytes) / 4));
  }
  auto file = TakeAllAndTrim(job, plan, manifest);
  if (!file) return file;
  const auto status = CheckRegion(plan, manifest, ToExtents(file->chunks));
  if (!status) return status.error();
  return file;
}

std::vector<DiskChunk> BestChunks(const Plan& plan, const Manifest& manifest,
                                  std::span<const DiskChunk> chunks) {
  const uint64_t most = plan.region_file_bytes_max / plan.disk_grid.chunk_bytes;
  std::vector<DiskChunk> best;
  for (const int worth : {2, 1, 0}) {
    for (const DiskChunk chunk : chunks) {
      if (best.size() == most) break;
      if (Worth(plan, manifest, chunk) == worth) best.push_back(chunk);
    }
  }
  return best;
}

}  // namespace bootstream
