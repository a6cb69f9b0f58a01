#include "blockmap/disk/ext_space.h"

#include <algorithm>

#include "blockmap/disk/ext_filesystem.h"
#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/used_extents.h"

namespace bootstream {
namespace {

constexpr uint64_t kReservedClustersMax = 4096;
constexpr uint64_t kReservedShare = 50;  // one in so many clusters
// A leaf of an extent tree in a block of 1 KiB holds this many.
constexpr uint64_t kExtentsInLeaf = 80;
constexpr uint64_t kOtherClusters = 16;  // inner nodes, the directory

// Bits that do not keep a current kernel from writing: those of the ext4 that
// Debian 12 and 13 make, with all that mke2fs can be asked for.
constexpr uint32_t kIncompatible =
    EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
    EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_MMP |
    EXT4_FEATURE_INCOMPAT_FLEX_BG | EXT4_FEATURE_INCOMPAT_EA_INODE |
    EXT4_FEATURE_INCOMPAT_CSUM_SEED | EXT4_FEATURE_INCOMPAT_LARGEDIR |
    EXT4_FEATURE_INCOMPAT_INLINE_DATA | EXT4_FEATURE_INCOMPAT_ENCRYPT |
    EXT2_FEATURE_INCOMPAT_META_BG;
constexpr uint32_t kReadOnlyCompatible =
    EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
    EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM |
    EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE |
    EXT4_FEATURE_RO_COMPAT_QUOTA | EXT4_FEATURE_RO_COMPAT_BIGALLOC |
    EXT4_FEATURE_RO_COMPAT_METADATA_CSUM | EXT4_FEATURE_RO_COMPAT_PROJECT |
    EXT4_FEATURE_RO_COMPAT_VERITY;

uint64_t Sum(const std::vector<ByteExtent>& extents) {
  uint64_t sum = 0;
  for (const ByteExtent& extent : extents) sum += extent.size;
  return sum;
}

std::string FeatureObstacle(const ext2_super_block& super) {
  if ((super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_READONLY) != 0) {
    return "is marked read-only (tune2fs -O ^read-only takes that away)";
  }
  if ((super.s_feature_compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL) != 0 &&
      super.s_journal_inum == 0) {
    return "keeps its journal on another device";
  }
  if ((super.s_feature_incompat & ~kIncompatible) != 0 ||
      (super.s_feature_ro_compat & ~kReadOnlyCompatible) != 0) {
    return "has features that are not supported yet (tune2fs -l shows them)";
  }
  return {};
}

Result<std::string> RootObstacle(ext2_filsys fs) {
  ext2_inode root{};
  if (auto code = ext2fs_read_inode(fs, EXT2_ROOT_INO, &root); code != 0) {
    return ExtError(code, "read the root directory's inode");
  }
  if ((root.i_flags & (EXT2_IMMUTABLE_FL | EXT2_APPEND_FL)) != 0) {
    return std::string(
        "has a root directory that must not be changed (chattr -ia takes that "
        "away)");
  }
  if ((root.i_flags & EXT4_ENCRYPT_FL) != 0) {
    return std::string("has an encrypted root directory");
  }
  return std::string();
}

// What is in the way of the file itself: made anew, or growing.
Result<std::string> FileObstacle(ext2_filsys fs, const std::string& name) {
  ext2_ino_t number = 0;
  const errcode_t code =
      ext2fs_lookup(fs, EXT2_ROOT_INO, name.c_str(),
                    static_cast<int>(name.size()), nullptr, &number);
  if (code == EXT2_ET_FILE_NOT_FOUND) {
    if (fs->super->s_free_inodes_count != 0) return std::string();
    return std::string("has no free inode for a file; delete one");
  }
  if (code != 0) return ExtError(code, "look up " + name);
  ext2_inode inode{};
  if (auto read = ext2fs_read_inode(fs, number, &inode); read != 0) {
    return ExtError(read, "read the inode of " + name);
  }
  if ((inode.i_flags & (EXT2_IMMUTABLE_FL | EXT2_APPEND_FL)) != 0) {
    return "has a " + name + " that must not be changed";
  }
  return std::string();
}

Result<std::string> FindObstacle(ext2_filsys fs, const std::string& name) {
  if (auto found = FeatureObstacle(*fs->super); !found.empty()) return found;
  auto root = RootObstacle(fs);
  if (!root || !root->empty()) return root;
  return FileObstacle(fs, name);
}

uint64_t ReserveBytes(ext2_filsys fs, uint64_t free_extents) {
  const auto ratio = static_cast<uint64_t>(EXT2FS_CLUSTER_RATIO(fs));
  const uint64_t cluster_bytes = fs->blocksize * ratio;
  const uint64_t clusters = ext2fs_blocks_count(fs->super) / ratio;
  const uint64_t held =
      std::min(clusters / kReservedShare, kReservedClustersMax);
  return (held + free_extents / kExtentsInLeaf + kOtherClusters) *
         cluster_bytes;
}

}  // namespace

uint64_t ExtSpace::free_bytes() const { return Sum(free); }
uint64_t ExtSpace::file_bytes() const { return Sum(file); }

Result<ExtSpace> ReadExtSpace(const std::string& disk, ByteExtent partition,
                              const std::string& name) {
  auto free = FreeExtExtents(disk, partition);
  if (!free) return free.error();
  auto fs = OpenExt(disk, partition);
  if (!fs) return fs.error();
  ExtSpace space;
  space.free = std::move(*free);
  space.reserve_bytes = ReserveBytes(fs->get(), space.free.size());
  auto file = FileExtents(disk, partition, name);
  if (file) {
    space.file = std::move(*file);
  } else if (file.error().code == ErrorCode::kRefused) {
    space.obstacle = "has a " + name + " that is not ours (" +
                     file.error().message + "); remove it";
    return space;
  } else if (file.error().code != ErrorCode::kNotFound) {
    return file.error();
  }
  auto obstacle = FindObstacle(fs->get(), name);
  if (!obstacle) return obstacle.error();
  space.obstacle = std::move(*obstacle);
  return space;
}

}  // namespace bootstream
