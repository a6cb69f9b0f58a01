#include "blockmap/disk/used_extents.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <span>

#include "blockmap/base/coding.h"
#include "blockmap/base/unique_fd.h"
#include "blockmap/disk/ext_filesystem.h"

namespace bootstream {
namespace {

Error FatError(const std::string& path, ByteExtent partition,
               const std::string& what) {
  return Error{ErrorCode::kCorrupt, "FAT at byte " +
                                        std::to_string(partition.offset) +
                                        " of " + path + ": " + what};
}

Status ReadAt(int fd, uint64_t offset, std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(fd, out.data() + done, out.size() - done,
                              static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(errno, "read");
    if (n == 0) return Error{ErrorCode::kIo, "read: short"};
    done += static_cast<size_t>(n);
  }
  return OkStatus();
}

// A FAT32 entry has 28 bits, of which the highest values mean other things.
constexpr uint64_t kFatClustersMax = 0x0ffffff5;

// The layout that a FAT's first sector describes.
struct FatLayout {
  uint32_t sector_bytes = 0;
  uint32_t cluster_bytes = 0;
  uint64_t fat_offset = 0;  // bytes from the start of the partition
  uint64_t fat_bytes = 0;   // of one copy
  uint64_t data_offset = 0;
  uint64_t cluster_count = 0;
  uint32_t entry_bits = 0;  // 12, 16 or 32
  uint64_t fat_bytes_needed() const {
    return ((cluster_count + 2) * entry_bits + 7) / 8;
  }
};

bool IsPowerOfTwo(uint32_t value) {
  return value != 0 && (value & (value - 1)) == 0;
}

// kUnsupported: the sector is no FAT's.
Result<FatLayout> ParseFat(std::span<const std::byte> sector,
                           uint64_t partition_bytes) {
  ByteReader in(sector);
  in.Skip(11);
  FatLayout fat;
  fat.sector_bytes = in.U16();
  const uint32_t sectors_per_cluster = in.U8();
  const uint32_t reserved = in.U16();
  const uint32_t copies = in.U8();
  const uint32_t root_entries = in.U16();
  uint64_t total = in.U16();
  in.Skip(1);
  uint64_t fat_sectors = in.U16();
  in.Skip(8);
  if (const uint32_t total32 = in.U32(); total == 0) total = total32;
  if (const uint32_t fat32 = in.U32(); fat_sectors == 0) fat_sectors = fat32;
  const Error none{ErrorCode::kUnsupported, "no FAT file system"};
  if (sector[510] != std::byte{0x55} || sector[511] != std::byte{0xaa} ||
      !IsPowerOfTwo(fat.sector_bytes) || fat.sector_bytes < 512 ||
      fat.sector_bytes > 4096 || !IsPowerOfTwo(sectors_per_cluster) ||
      reserved == 0 || copies == 0 || copies > 4 || fat_sectors == 0 ||
      total == 0) {
    return none;
  }
  const uint64_t root_sectors =
      (uint64_t{root_entries} * 32 + fat.sector_bytes - 1) / fat.sector_bytes;
  const uint64_t data_sector = reserved + copies * fat_sectors + root_sectors;
  if (data_sector > total || total > partition_bytes / fat.sector_bytes) {
    return Error{ErrorCode::kCorrupt, "sizes do not fit the partition"};
  }
  fat.cluster_bytes = sectors_per_cluster * fat.sector_bytes;
  fat.fat_offset = uint64_t{reserved} * fat.sector_bytes;
  fat.fat_bytes = fat_sectors * fat.sector_bytes;
  fat.data_offset = data_sector * fat.sector_bytes;
  fat.cluster_count = (total - data_sector) / sectors_per_cluster;
  fat.entry_bits = fat.cluster_count < 4085    ? 12
                   : fat.cluster_count < 65525 ? 16
                                               : 32;
  if (fat.cluster_count > kFatClustersMax ||
      fat.fat_bytes_needed() > fat.fat_bytes) {
    return Error{ErrorCode::kCorrupt, "the table is too short"};
  }
  return fat;
}

uint32_t FatEntry(std::span<const std::byte> table, uint32_t bits,
                  uint64_t index) {
  if (bits == 32) {
    return LoadLe<uint32_t>(table.subspan(index * 4).first<4>()) & 0x0fffffff;
  }
  if (bits == 16) return LoadLe<uint16_t>(table.subspan(index * 2).first<2>());
  const uint64_t at = index + index / 2;
  const uint32_t pair = static_cast<uint32_t>(table[at]) |
                        static_cast<uint32_t>(table[at + 1]) << 8;
  return index % 2 != 0 ? pair >> 4 : pair & 0xfff;
}

void AppendUsedBlocks(ext2_filsys fs, ByteExtent partition,
                      std::vector<ByteExtent>& used) {
  const uint64_t end = ext2fs_blocks_count(fs->super);
  uint64_t block = fs->super->s_first_data_block;
  while (block < end) {
    blk64_t first = 0;
    if (ext2fs_find_first_set_block_bitmap2(fs->block_map, block, end - 1,
                                            &first) != 0) {
      return;
    }
    blk64_t after = end;
    if (ext2fs_find_first_zero_block_bitmap2(fs->block_map, first, end - 1,
                                             &after) != 0) {
      after = end;
    }
    AppendExtent(used, {partition.offset + first * fs->blocksize,
                        (after - first) * fs->blocksize});
    block = after;
  }
}

}  // namespace

void AppendExtent(std::vector<ByteExtent>& list, ByteExtent extent) {
  if (extent.size == 0) return;
  assert(list.empty() || extent.offset >= list.back().end());
  if (!list.empty() && list.back().end() == extent.offset) {
    list.back().size += extent.size;
  } else {
    list.push_back(extent);
  }
}

Result<std::vector<ByteExtent>> UsedExtExtents(const std::string& path,
                                               ByteExtent partition) {
  auto fs = OpenExt(path, partition);
  if (!fs) return fs.error();
  if (const errcode_t code = ext2fs_read_block_bitmap(fs->get()); code != 0) {
    return ExtError(code, "block bitmap of the ext file system at byte " +
                              std::to_string(partition.offset));
  }
  std::vector<ByteExtent> used;
  // The boot block lies before the first block that the bitmap counts.
  AppendExtent(used,
               {partition.offset,
                uint64_t{(*fs)->super->s_first_data_block} * (*fs)->blocksize});
  AppendUsedBlocks(fs->get(), partition, used);
  return used;
}

Result<std::vector<ByteExtent>> FreeExtExtents(const std::string& path,
                                               ByteExtent partition) {
  const auto used = UsedExtExtents(path, partition);
  if (!used) return used.error();
  auto fs = OpenExt(path, partition);
  if (!fs) return fs.error();
  const uint64_t end =
      partition.offset + ext2fs_blocks_count((*fs)->super) * (*fs)->blocksize;
  std::vector<ByteExtent> free;
  uint64_t at = partition.offset;
  for (const ByteExtent& extent : *used) {
    AppendExtent(free, {at, extent.offset - at});
    at = extent.end();
  }
  if (at < end) AppendExtent(free, {at, end - at});
  return free;
}

Result<std::vector<ByteExtent>> UsedFatExtents(const std::string& path,
                                               ByteExtent partition) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + path);
  std::array<std::byte, kSectorBytes> sector{};
  if (partition.size < sector.size()) {
    return Error{ErrorCode::kUnsupported, "no file system fits there"};
  }
  if (auto s = ReadAt(fd.get(), partition.offset, sector); !s) {
    return Annotate(s.error(), path);
  }
  const auto fat = ParseFat(sector, partition.size);
  if (!fat && fat.error().code == ErrorCode::kUnsupported) return fat.error();
  if (!fat) return FatError(path, partition, fat.error().message);
  std::vector<std::byte> table(fat->fat_bytes_needed() + 1);
  if (auto s = ReadAt(fd.get(), partition.offset + fat->fat_offset,
                      std::span(table).first(fat->fat_bytes_needed()));
      !s) {
    return Annotate(s.error(), path);
  }
  std::vector<ByteExtent> used;
  AppendExtent(used, {partition.offset, fat->data_offset});
  for (uint64_t i = 0; i < fat->cluster_count; ++i) {
    if (FatEntry(table, fat->entry_bits, i + 2) == 0) continue;
    AppendExtent(used,
                 {partition.offset + fat->data_offset + i * fat->cluster_bytes,
                  fat->cluster_bytes});
  }
  return used;
}

Result<std::vector<ByteExtent>> UsedExtents(const std::string& path,
                                            ByteExtent partition) {
  auto used = UsedExtExtents(path, partition);
  if (used || used.error().code != ErrorCode::kUnsupported) return used;
  auto fat = UsedFatExtents(path, partition);
  if (fat || fat.error().code != ErrorCode::kUnsupported) return fat;
  return Error{ErrorCode::kUnsupported,
               "the partition at byte " + std::to_string(partition.offset) +
                   " of " + path + " has neither an ext nor a FAT file system"};
}

}  // namespace bootstream
