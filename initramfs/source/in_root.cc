#include "initramfs/source/in_root.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <vector>

#include "blockmap/base/unique_fd.h"

namespace bootstream {

Result<std::string> ResolveInRoot(const std::string& root,
                                  const std::string& path) {
  const UniqueFd top(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!top) return ErrnoError(errno, root);
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT;
  const UniqueFd fd(static_cast<int>(
      ::syscall(SYS_openat2, top.get(), path.c_str(), &how, sizeof how)));
  if (!fd) {
    Error error = ErrnoError(errno, root + "/" + path);
    if (errno == ENOENT || errno == ENOTDIR) error.code = ErrorCode::kNotFound;
    return error;
  }
  std::vector<char> name(PATH_MAX);
  const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
  const ssize_t n = ::readlink(link.c_str(), name.data(), name.size());
  if (n < 0) return ErrnoError(errno, link);
  return std::string(name.data(), static_cast<size_t>(n));
}

}  // namespace bootstream
