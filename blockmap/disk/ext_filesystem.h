#ifndef BLOCKMAP_DISK_EXT_FILESYSTEM_H_
#define BLOCKMAP_DISK_EXT_FILESYSTEM_H_

#include <ext2fs/ext2fs.h>
// A macro of libext2fs 1.47 that std::clamp would fall over.
#undef clamp

#include <memory>
#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"

namespace bootstream {

// Opens an unmounted ext2, ext3 or ext4 read-only with libext2fs, wherever on
// the disk it lies.
struct ExtClose {
  void operator()(ext2_filsys fs) const { ext2fs_free(fs); }
};
using ExtHandle = std::unique_ptr<struct_ext2_filsys, ExtClose>;

// kUnsupported: no ext file system there, or features libext2fs does not know;
// kCorrupt: its superblock makes no sense or it is larger than `partition`.
Result<ExtHandle> OpenExt(const std::string& path, ByteExtent partition);

// kNotFound: there is nothing of that name in the root.
Result<ext2_ino_t> FindInRoot(ext2_filsys fs, const std::string& name);

// A libext2fs error code as an Error.
Error ExtError(errcode_t code, const std::string& what);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_EXT_FILESYSTEM_H_
