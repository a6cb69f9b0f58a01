#include "bootagent/plan.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "blockmap/base/progress.h"
#include "blockmap/map/map_store.h"
#include "bootagent/image_table.h"
#include "bootagent/plan_steps.h"
#include "bootagent/region_size.h"

namespace bootstream {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
// The programs themselves, and what they hold of a batch of chunks.
constexpr uint64_t kMemoryBytes = uint64_t{64} << 20;
constexpr uint64_t kChunksInMemory = uint64_t{3} * 64;
constexpr uint64_t kMapBytesPerChunk = 32;

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

const ExtSpace* SpaceOf(const Facts& facts, const ProbedPartition& partition) {
  for (const auto& one : facts.spaces) {
    if (one.partition_offset == partition.partition.extent.offset) {
      return &one.space;
    }
  }
  return nullptr;
}

uint64_t AvailableBytes(const Facts& facts, const ProbedPartition& partition) {
  const ExtSpace* const space = SpaceOf(facts, partition);
  return space == nullptr ? 0 : space->free_bytes() + space->file_bytes();
}

Result<const ProbedPartition*> ChooseSource(const Facts& facts,
                                            const PlanOptions& options) {
  const ProbedPartition* best = nullptr;
  for (const ProbedPartition& partition : facts.disk.partitions) {
    const bool named = options.region_partition == partition.partition.number;
    if (options.region_partition && !named) continue;
    if (!partition.ext || !partition.ext->has_extents ||
        SpaceOf(facts, partition) == nullptr) {
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
                    uint64_t special, uint64_t region_extents,
                    const PlanOptions& options) {
  Account account;
  account.image = manifest.grid().chunk_count();
  account.image_data = manifest.data_chunk_count();
  account.boot_set = BootChunkCount(manifest);
  account.relocations = account.boot_set + special;
  account.metadata =
      MapStore::MetadataChunks(manifest.grid(), facts.manifest_bytes,
                               region_extents, options.journal_chunks);
  account.spare = options.spare_chunks;
  return account;
}

// The manifest as a file and decoded, the map, and batches on their way.
Status CheckMemory(const Facts& facts, const Manifest& manifest) {
  const uint64_t needed = kMemoryBytes + 3 * facts.manifest_bytes +
                          manifest.data_chunk_count() * kMapBytesPerChunk +
                          kChunksInMemory * manifest.grid().chunk_bytes;
  if (needed <= facts.memory_bytes) return OkStatus();
  return Refused(
      "there is too little memory: " + FormatBytes(facts.memory_bytes) +
      " available, " + FormatBytes(needed) + " needed");
}

// What can be written before commit with all of the image there as well.
std::optional<uint64_t> RoomForUsers(const Plan& plan) {
  if (plan.guaranteed) return std::nullopt;
  const Account& a = plan.account;
  const uint64_t chunks =
      a.room_for_image - std::min(a.room_for_image, a.image_data);
  return chunks * plan.disk_grid.chunk_bytes;
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
  if (auto s = CheckImageTable(manifest, facts.image_table); !s) {
    return s.error();
  }
  if (auto s = CheckMemory(facts, manifest); !s) return s.error();
  const auto source = ChooseSource(facts, options);
  if (!source) return source.error();
  const ExtFacts& ext = *(*source)->ext;
  const ExtSpace& space = *SpaceOf(facts, **source);
  if (!space.obstacle.empty()) {
    return Refused(Where(**source) + " " + space.obstacle);
  }
  plan.source_partition = (*source)->partition.number;
  plan.source_extent = (*source)->partition.extent;
  plan.source_uuid = ext.uuid;
  plan.source_free_bytes = AvailableBytes(facts, **source);
  plan.headroom_bytes = std::max(
      options.headroom_bytes.value_or(std::max(ext.size_bytes() / 10, kGiB)),
      space.reserve_bytes);
  const auto anchor = ChooseAnchor(plan.disk_grid, manifest);
  if (!anchor) return anchor.error();
  plan.anchor_offset = *anchor;
  plan.special = SpecialChunks(facts.disk.table, plan.disk_grid, *anchor);
  plan.journal_chunks = options.journal_chunks;
  plan.give_up_source = options.when_full == WhenFull::kGiveUpSource;
  const RegionRoom room = CountRoom(space, plan, manifest);
  plan.account =
      MakeAccount(facts, manifest, plan.special.size(), room.extents, options);
  if (auto s = SizeRegion(plan, room, options); !s) return s.error();
  plan.users = JudgeUserSpace(facts.users, RoomForUsers(plan));
  plan.steps = DescribeSteps(plan);
  return plan;
}

std::vector<DiskChunk> SpecialChunks(const PartitionTable& table,
                                     const Grid& disk, uint64_t anchor_offset) {
  std::set<DiskChunk> chunks;
  AddChunks(chunks, disk, {anchor_offset, kAnchorBytes});
  AddChunks(chunks, disk, {0, uint64_t{2} * kSectorBytes});
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
