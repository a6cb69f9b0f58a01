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
  return fs;
}

}  // namespace bootstream
