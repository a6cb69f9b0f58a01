#include "imgserver/boot_directory.h"

#include <ext2fs/ext2fs.h>

#include <string_view>

#include "blockmap/disk/ext_filesystem.h"

namespace bootstream {
namespace {

struct Search {
  ext2_filsys fs = nullptr;
  bool found = false;
};

int OnEntry(ext2_dir_entry* entry, int, int, char*, void* user) {
  auto& search = *static_cast<Search*>(user);
  const std::string_view name(
      entry->name, static_cast<size_t>(ext2fs_dirent_name_len(entry)));
  const bool folder = name == "grub" || name == "grub2";
  if (!folder && !name.starts_with("vmlinuz")) return 0;
  ext2_inode inode{};
  if (ext2fs_read_inode(search.fs, entry->inode, &inode) != 0) return 0;
  if (folder ? !LINUX_S_ISDIR(inode.i_mode) : !LINUX_S_ISREG(inode.i_mode)) {
    return 0;
  }
  search.found = true;
  return DIRENT_ABORT;
}

Result<bool> HasBootFiles(ext2_filsys fs, ext2_ino_t folder) {
  Search search{fs, false};
  if (const errcode_t code =
          ext2fs_dir_iterate(fs, folder, 0, nullptr, &OnEntry, &search);
      code != 0) {
    return ExtError(code, "reading a directory");
  }
  return search.found;
}

}  // namespace

Result<BootDirectory> FindBootDirectory(const std::string& path,
                                        ByteExtent partition) {
  const auto fs = OpenExt(path, partition);
  if (!fs) return fs.error();
  const auto in_root = HasBootFiles(fs->get(), EXT2_ROOT_INO);
  if (!in_root) return in_root.error();
  if (*in_root) return BootDirectory::kRoot;
  ext2_ino_t boot = 0;
  if (ext2fs_lookup(fs->get(), EXT2_ROOT_INO, "boot", 4, nullptr, &boot) != 0 ||
      ext2fs_check_directory(fs->get(), boot) != 0) {
    return BootDirectory::kNone;
  }
  const auto inside = HasBootFiles(fs->get(), boot);
  if (!inside) return inside.error();
  return *inside ? BootDirectory::kInside : BootDirectory::kNone;
}

}  // namespace bootstream
