#include "initramfs/closure/bare_mounts.h"

#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <filesystem>
#include <map>

namespace bootstream {
namespace {

Status Call(int result, const std::string& what) {
  return result == 0 ? OkStatus() : Status(ErrnoError(errno, what));
}

// Nobody else sees it, and it goes with this process.
Status EnterOwnNamespace(const std::string& directory) {
  if (auto s = Call(::unshare(CLONE_NEWNS), "unshare"); !s) return s;
  if (auto s = Call(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr),
                    "make mounts private");
      !s) {
    return s;
  }
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return Error{ErrorCode::kIo, directory + ": " + error.message()};
  return Call(::mount("none", directory.c_str(), "tmpfs", 0, "mode=0700"),
              "mount " + directory);
}

}  // namespace

Status ShowBare(const std::string& directory, std::vector<BootTree>& trees) {
  if (trees.empty()) return OkStatus();
  if (auto s = EnterOwnNamespace(directory); !s) return s;
  std::map<std::string, std::string> shown;  // by mount point
  for (BootTree& tree : trees) {
    std::string& at = shown[tree.mount];
    if (at.empty()) {
      at = directory + "/" + std::to_string(shown.size());
      std::error_code error;
      std::filesystem::create_directory(at, error);
      if (error) return Error{ErrorCode::kIo, at + ": " + error.message()};
      const Status s =
          Call(::mount(tree.mount.c_str(), at.c_str(), nullptr, MS_BIND,
                       nullptr),
               "mount " + tree.mount + " at " + at);
      if (!s) return s;
    }
    const size_t above = tree.mount == "/" ? 0 : tree.mount.size();
    tree.local = at + tree.name.substr(above);
  }
  return OkStatus();
}

}  // namespace bootstream
