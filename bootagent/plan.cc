#include "bootagent/plan.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "blockmap/base/progress.h"
#include "blockmap/map/map_store.h"
#include "bootagent/plan_steps.h"

namespace bootstream {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
// Room that a plan without a guarantee still has for what is read and written
// before somebody makes up his mind.
constexpr uint64_t kWorkingChunksMin = 64;
// An extent of a file gives up to two chunks' worth of edges away.
constexpr uint64_t kExpectedExtents = 16;
// A region in more pieces than this needs more room for its list.
constexpr uint64_t kRegionExtentsMax = 4096;

Error Refused(std::string message) {
  return Error{ErrorCode::kRefused, std::move(message)};
}

std::string Where(const ProbedPartition& partition) {
  return "partition " + std::to_string(partition.partition.number);
}

// What a partition may hold for the disk to be taken on.
Status CheckContent(const ProbedPartition& partition) {
  constexpr std::array<std::string_view, 6> kKnown{"",     "ext2", "ext3",
                                                   "ext4", "vfat", "swap"};
  const Content& content = partition.content;
  if (content.ambiguous) {
    return Refused(Where(partition) +
                   " has the signatures of more than one file system; wipe "
                   "the stale one first");
  }
  if (content.type == "swsuspend") {
    return Refused(Where(partition) +
                   " holds a hibernated system; start it and shut it down");
  }
  if (std::ranges::find(kKnown, content.type) == kKnown.end()) {
    return Refused(Where(partition) + " holds " + content.type +
                   ", which is not supported yet");
  }
  if (partition.ext && !partition.ext->clean) {
    return Refused("the file system on " + Where(partition) +
                   " was not unmounted in order; start the old system and "
                   "shut it down, or run fsck");
  }
  return OkStatus();
}

uint64_t RegionFileBytes(const Facts& facts, const ProbedPartition& partition) {
  for (const auto& file : facts.region_files) {
    if (file.partition_offset == partition.partition.extent.offset) {
      return file.size_bytes;
    }
  }
  return 0;
}

uint64_t AvailableBytes(const Facts& facts, const ProbedPartition& partition) {
  return partition.ext->free_bytes() + RegionFileBytes(facts, partition);
}

Result<const ProbedPartition*> ChooseSource(const Facts& facts,
                                            const PlanOptions& options) {
  const ProbedPartition* best = nullptr;
  for (const ProbedPartition& partition : facts.disk.partitions) {
    const bool named = options.region_partition == partition.partition.number;
    if (options.region_partition && !named) continue;
    if (!partition.ext || !partition.ext->has_extents) {
      if (!named) continue;
      return Refused(Where(partition) + " holds no ext4 to take space from");
    }
    if (best == nullptr ||
        AvailableBytes(facts, partition) > AvailableBytes(facts, *best)) {
      best = &partition;
    }
  }
  if (best != nullptr) return best;
  if (options.region_partition) {
    return Refused("there is no partition " +
                   std::to_string(*options.region_partition));
  }
  return Refused("the disk has no ext4 file system to take space from");
}

bool TouchesTable(const Manifest& manifest, ByteExtent range) {
  return std::ranges::any_of(
      manifest.content().tables, [&](const ByteExtent& table) {
        return table.offset < range.end() && range.offset < table.end();
      });
}

void AddChunks(std::set<DiskChunk>& chunks, const Grid& grid, ByteExtent e) {
  if (e.size == 0) return;
  for (uint64_t c = e.offset / grid.chunk_bytes;
       c <= (e.end() - 1) / grid.chunk_bytes; ++c) {
    chunks.insert(DiskChunk{c});
  }
}

uint64_t BootChunkCount(const Manifest& manifest) {
  uint64_t count = 0;
  for (const ChunkExtent& extent : manifest.content().boot_set) {
    count += extent.count;
  }
  return count;
}

Account MakeAccount(const Facts& facts, const Manifest& manifest,
                    uint64_t special, const PlanOptions& options) {
  Account account;
  account.image = manifest.grid().chunk_count();
  account.image_data = manifest.data_chunk_count();
  account.boot_set = BootChunkCount(manifest);
  account.relocations = account.boot_set + special;
  account.metadata =
      MapStore::MetadataChunks(manifest.grid(), facts.manifest_bytes,
                               kRegionExtentsMax, options.journal_chunks);
  account.spare = options.spare_chunks;
  return account;
}

uint64_t FileBytesFor(uint64_t chunks, const Grid& grid) {
  const uint64_t bytes = chunks * grid.chunk_bytes;
  const uint64_t edges = 2 * kExpectedExtents * grid.chunk_bytes;
  return bytes + std::max(bytes / 64, edges);
}

uint64_t ChunksOfFile(uint64_t bytes, const Grid& grid) {
  const uint64_t edges = 2 * kExpectedExtents * grid.chunk_bytes;
  const uint64_t lost = std::max(bytes / 65 + 1, edges);
  return bytes > lost ? (bytes - lost) / grid.chunk_bytes : 0;
}

// How large the region becomes, and whether that is a guarantee.
Status SizeRegion(Plan& plan, const PlanOptions& options) {
  Account& account = plan.account;
  const uint64_t fixed = account.metadata + account.spare;
  const uint64_t start = account.boot_set + account.relocations + fixed;
  const uint64_t full = std::max(account.image + fixed, start);
  const uint64_t least = std::min(full, start + kWorkingChunksMin);
  const uint64_t free = plan.source_free_bytes;
  const uint64_t available =
      free > plan.headroom_bytes ? free - plan.headroom_bytes : 0;
  plan.region_file_bytes_max = available;
  plan.guaranteed = FileBytesFor(full, plan.disk_grid) <= available;
  const uint64_t wanted = FileBytesFor(
      plan.guaranteed || options.when_full == WhenFull::kUnset ? full : least,
      plan.disk_grid);
  if (wanted > available) {
    std::string message = "the region does not fit: partition " +
                          std::to_string(plan.source_partition) + " can give " +
                          FormatBytes(available) + " (" + FormatBytes(free) +
                          " free, " + FormatBytes(plan.headroom_bytes) +
                          " stay free), " + FormatBytes(wanted) +
                          " are needed, " + FormatBytes(wanted - available) +
                          " are missing";
    if (options.when_full == WhenFull::kUnset &&
        FileBytesFor(least, plan.disk_grid) <= available) {
      message +=
          "; with --when-full block or give-up-source a smaller region will do";
    }
    return Refused(std::move(message));
  }
  account.region =
      plan.guaranteed ? full : ChunksOfFile(available, plan.disk_grid);
  account.region = std::max(account.region, least);
  plan.region_file_bytes =
      std::min(FileBytesFor(account.region, plan.disk_grid), available);
  account.room_for_image = account.region - fixed;
  return OkStatus();
}

Status CheckImage(const Manifest& manifest, const Grid& disk) {
  if (manifest.grid().size_bytes > disk.size_bytes) {
    return Refused("the image is larger than the disk: " +
                   FormatBytes(manifest.grid().size_bytes) + " against " +
                   FormatBytes(disk.size_bytes) + ", " +
                   FormatBytes(manifest.grid().size_bytes - disk.size_bytes) +
                   " are missing");
  }
  return OkStatus();
}

}  // namespace

bool IsKept(const Manifest& manifest, ImageChunk chunk) {
  return manifest.InBootSet(chunk) || manifest.IsPinned(chunk);
}

Result<uint64_t> ChooseAnchor(const Grid& disk, const Manifest& manifest) {
  for (const uint64_t offset : AnchorCandidates(disk.size_bytes)) {
    const ImageChunk chunk{offset / disk.chunk_bytes};
    if (chunk.value >= manifest.grid().chunk_count()) return offset;
    const ByteExtent range{disk.offset_of(chunk.value), disk.chunk_bytes};
    if (manifest.IsZero(chunk) && !IsKept(manifest, chunk) &&
        !TouchesTable(manifest, range)) {
      return offset;
    }
  }
  return Refused(
      "neither the end of the disk nor the 256 KiB before its first MiB's end "
      "are free in the image, so there is no place for the anchor");
}

std::set<ImageChunk> TableChunks(const Manifest& manifest) {
  std::set<ImageChunk> chunks;
  const uint32_t chunk_bytes = manifest.grid().chunk_bytes;
  for (const ByteExtent& extent : manifest.content().tables) {
    for (uint64_t c = extent.offset / chunk_bytes;
         c * chunk_bytes < extent.end(); ++c) {
      chunks.insert(ImageChunk{c});
    }
  }
  return chunks;
}

Status CheckDisk(const ProbedDisk& disk) {
  if (disk.identity.sector_bytes != kSectorBytes) {
    return Error{ErrorCode::kUnsupported,
                 "the disk has logical sectors of " +
                     std::to_string(disk.identity.sector_bytes) +
                     " bytes; only 512 is supported"};
  }
  if (disk.table.type == TableType::kNone) {
    return Refused("the disk has no partition table" +
                   (disk.whole.type.empty()
                        ? std::string()
                        : ", it is used whole for " + disk.whole.type));
  }
  if (disk.whole.usage == "raid" || disk.whole.usage == "crypto") {
    return Refused("the disk belongs to " + disk.whole.type +
                   ", which is not supported yet");
  }
  for (const ProbedPartition& partition : disk.partitions) {
    if (auto s = CheckContent(partition); !s) return s;
  }
  return OkStatus();
}

Result<Plan> MakePlan(const Facts& facts, const Manifest& manifest,
                      const PlanOptions& options) {
  if (auto s = CheckDisk(facts.disk); !s) return s.error();
  Plan plan;
  plan.disk = facts.disk.path;
  plan.identity = facts.disk.identity;
  plan.image_name = manifest.content().name;
  plan.image_version = manifest.content().version;
  plan.manifest_digest = manifest.digest();
  plan.image = manifest.grid();
  plan.disk_grid = {plan.image.chunk_bytes, facts.disk.identity.size_bytes};
  if (auto s = CheckImage(manifest, plan.disk_grid); !s) return s.error();
  const auto source = ChooseSource(facts, options);
  if (!source) return source.error();
  const ExtFacts& ext = *(*source)->ext;
  plan.source_partition = (*source)->partition.number;
  plan.source_extent = (*source)->partition.extent;
  plan.source_uuid = ext.uuid;
  plan.source_free_bytes = AvailableBytes(facts, **source);
  plan.headroom_bytes =
      options.headroom_bytes.value_or(std::max(ext.size_bytes() / 10, kGiB));
  const auto anchor = ChooseAnchor(plan.disk_grid, manifest);
  if (!anchor) return anchor.error();
  plan.anchor_offset = *anchor;
  plan.special = SpecialChunks(facts.disk.table, plan.disk_grid, *anchor);
  plan.journal_chunks = options.journal_chunks;
  plan.account = MakeAccount(facts, manifest, plan.special.size(), options);
  plan.give_up_source = options.when_full == WhenFull::kGiveUpSource;
  if (auto s = SizeRegion(plan, options); !s) return s.error();
  plan.steps = DescribeSteps(plan);
  return plan;
}

std::vector<DiskChunk> SpecialChunks(const PartitionTable& table,
                                     const Grid& disk, uint64_t anchor_offset) {
  std::set<DiskChunk> chunks;
  AddChunks(chunks, disk, {anchor_offset, kAnchorBytes});
  AddChunks(chunks, disk, {0, 2 * kSectorBytes});
  if (table.type == TableType::kGpt) {
    AddChunks(chunks, disk, table.table_extents[1]);  // the backup header
  }
  return {chunks.begin(), chunks.end()};
}

std::vector<DiskChunk> ChunksToRelocate(std::span<const DiskChunk> special,
                                        const Manifest& manifest,
                                        std::span<const DiskExtent> base) {
  std::set<DiskChunk> chunks(special.begin(), special.end());
  for (const ChunkExtent& extent : manifest.content().boot_set) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      chunks.insert(DiskChunk{extent.first + i});
    }
  }
  for (const DiskExtent& extent : base) {
    chunks.erase(chunks.lower_bound(DiskChunk{extent.first}),
                 chunks.lower_bound(DiskChunk{extent.end()}));
  }
  return {chunks.begin(), chunks.end()};
}

Status CheckRegion(const Plan& plan, const Manifest& manifest,
                   std::span<const DiskExtent> base) {
  uint64_t total = 0;
  uint64_t plain = 0;
  uint64_t boot_homes = 0;
  for (const DiskExtent& extent : base) {
    total += extent.count;
    for (uint64_t c = extent.first; c < extent.end(); ++c) {
      const ImageChunk chunk{c};
      const bool inside = c < plan.image.chunk_count();
      plain += !inside || !IsKept(manifest, chunk);
      boot_homes += inside && manifest.InBootSet(chunk);
    }
  }
  const uint64_t relocations =
      ChunksToRelocate(plan.special, manifest, base).size();
  const uint64_t fixed = plan.account.metadata + plan.account.spare;
  const uint64_t needed =
      plan.account.boot_set - boot_homes + relocations + fixed;
  uint64_t missing = needed > plain ? needed - plain : 0;
  if (plan.guaranteed && plan.account.image + fixed > total) {
    missing = std::max(missing, plan.account.image + fixed - total);
  }
  if (missing == 0) return OkStatus();
  return Error{ErrorCode::kNoSpace,
               "the released space is too scattered: " +
                   std::to_string(missing) + " chunks of " +
                   FormatBytes(plan.disk_grid.chunk_bytes) + " are missing"};
}

}  // namespace bootstream
