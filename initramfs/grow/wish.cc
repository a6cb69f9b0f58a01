#include "initramfs/grow/wish.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <span>

#include "blockmap/base/file_util.h"

namespace bootstream {

Status WriteWish(const std::string& path, std::string_view why) {
  const std::filesystem::path folder =
      std::filesystem::path(path).parent_path();
  if (::mkdir(folder.c_str(), 0755) == 0) {
    if (auto s = SyncDirectory(folder.parent_path()); !s) return s;
  } else if (errno != EEXIST) {
    return ErrnoError(errno, "mkdir " + folder.string());
  }
  return WriteFileDurably(path, std::as_bytes(std::span(why)), 0644,
                          IfExists::kReplace);
}

bool IsWished(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

Status RemoveWish(const std::string& path) {
  if (::unlink(path.c_str()) != 0) {
    if (errno == ENOENT) return OkStatus();
    return ErrnoError(errno, "remove " + path);
  }
  return SyncDirectory(std::filesystem::path(path).parent_path());
}

}  // namespace bootstream
