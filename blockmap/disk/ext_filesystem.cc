#include "blockmap/disk/ext_filesystem.h"

#include <et/com_err.h>

namespace bootstream {

Error ExtError(errcode_t code, const std::string& what) {
  ErrorCode kind = ErrorCode::kCorrupt;
  if (code == EXT2_ET_BAD_MAGIC || code == EXT2_ET_UNSUPP_FEATURE ||
      code == EXT2_ET_RO_UNSUPP_FEATURE) {
    kind = ErrorCode::kUnsupported;
  } else if (code < 256) {
    kind = ErrorCode::kIo;  // an errno
  }
  return Error{kind, what + ": " + error_message(code)};
}

namespace {

// Whether the numbers by which libext2fs moves through the file system can be:
// it trusts them when it reads the bitmaps.
bool MakesSense(ext2_filsys fs) {
  const ext2_super_block& super = *fs->super;
  const uint64_t blocks = ext2fs_blocks_count(fs->super);
  const uint64_t bits = uint64_t{fs->blocksize} * 8;
  const uint64_t clusters = EXT2_CLUSTERS_PER_GROUP(fs->super);
  const uint64_t inodes = EXT2_INODES_PER_GROUP(fs->super);
  if (super.s_first_data_block > (fs->blocksize == 1024 ? 1U : 0U) ||
      blocks <= super.s_first_data_block || clusters == 0 || clusters > bits ||
      clusters % 8 != 0 || inodes == 0 || inodes > bits || inodes % 8 != 0) {
    return false;
  }
  const auto outside = [&](blk64_t block) {
    return block <= super.s_first_data_block || block >= blocks;
  };
  for (dgrp_t group = 0; group < fs->group_desc_count; ++group) {
    if (outside(ext2fs_block_bitmap_loc(fs, group)) ||
        outside(ext2fs_inode_bitmap_loc(fs, group)) ||
        outside(ext2fs_inode_table_loc(fs, group)) ||
        fs->inode_blocks_per_group >
            blocks - ext2fs_inode_table_loc(fs, group)) {
      return false;
    }
  }
  return true;
}

}  // namespace

Result<ExtHandle> OpenExt(const std::string& path, ByteExtent partition) {
  initialize_ext2_error_table();
  const std::string options = "offset=" + std::to_string(partition.offset);
  ext2_filsys raw = nullptr;
  const errcode_t code =
      ext2fs_open2(path.c_str(), options.c_str(), EXT2_FLAG_64BITS, 0, 0,
                   unix_io_manager, &raw);
  ExtHandle fs(raw);
  const std::string what = "ext file system at byte " +
                           std::to_string(partition.offset) + " of " + path;
  if (code != 0) return ExtError(code, what);
  const uint64_t blocks = ext2fs_blocks_count(fs->super);
  if (blocks > partition.size / fs->blocksize) {
    return Error{ErrorCode::kCorrupt, what + " is larger than its partition"};
  }
  if (!MakesSense(raw)) {
    return Error{ErrorCode::kCorrupt,
                 what + ": its superblock makes no sense; repair it first"};
  }
  return fs;
}

Result<ext2_ino_t> FindInRoot(ext2_filsys fs, const std::string& name) {
  ext2_ino_t inode = 0;
  const errcode_t code =
      ext2fs_lookup(fs, EXT2_ROOT_INO, name.c_str(),
                    static_cast<int>(name.size()), nullptr, &inode);
  if (code == EXT2_ET_FILE_NOT_FOUND) {
    return Error{ErrorCode::kNotFound, "there is no " + name};
  }
  if (code != 0) return ExtError(code, "look up " + name);
  return inode;
}

}  // namespace bootstream
