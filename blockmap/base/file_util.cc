#include "blockmap/base/file_util.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Hidden until it is whole: a server does not show names with a dot in front.
std::string TemporaryName(const std::string& path) {
  static std::atomic<unsigned> counter{0};
  return FolderOf(path) + "/." + path.substr(path.rfind('/') + 1) + "-" +
         std::to_string(::getpid()) + "-" + std::to_string(counter++);
}

Status WriteTemporary(const std::string& path, std::span<const std::byte> bytes,
                      mode_t mode) {
  const UniqueFd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd) return ErrnoError(errno, "create " + path);
  if (auto status = WriteAll(fd.get(), bytes); !status) {
    return Annotate(status.error(), path);
  }
  if (::fsync(fd.get()) != 0) return ErrnoError(errno, "fsync " + path);
  return OkStatus();
}

Status Publish(const std::string& temporary, const std::string& path,
               IfExists if_exists) {
  if (if_exists == IfExists::kReplace) {
    if (::rename(temporary.c_str(), path.c_str()) == 0) return OkStatus();
    return ErrnoError(errno, "rename to " + path);
  }
  // link() fails where rename() would replace.
  if (::link(temporary.c_str(), path.c_str()) == 0) {
    ::unlink(temporary.c_str());
    return OkStatus();
  }
  if (errno != EEXIST) return ErrnoError(errno, "link " + path);
  return Error{ErrorCode::kInvalid, path + " is there already"};
}

}  // namespace

Result<std::vector<std::byte>> ReadWholeFile(const std::string& path,
                                             uint64_t bytes_max) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    Error error = ErrnoError(errno, "open " + path);
    if (errno == ENOENT || errno == ENOTDIR) error.code = ErrorCode::kNotFound;
    return error;
  }
  std::vector<std::byte> out;
  size_t filled = 0;
  while (true) {
    if (filled == out.size()) out.resize(filled + (size_t{1} << 12) + filled);
    const ssize_t got =
        ::read(fd.get(), out.data() + filled, out.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, "read " + path);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
    if (filled > bytes_max) {
      return Error{
          ErrorCode::kInvalid,
          path + " is longer than " + std::to_string(bytes_max) + " bytes"};
    }
  }
  out.resize(filled);
  return out;
}

Status WriteFileDurably(const std::string& path,
                        std::span<const std::byte> bytes, mode_t mode,
                        IfExists if_exists) {
  const std::string temporary = TemporaryName(path);
  Status status = WriteTemporary(temporary, bytes, mode);
  if (status) status = Publish(temporary, path, if_exists);
  if (!status) {
    ::unlink(temporary.c_str());
    return status;
  }
  return SyncDirectory(FolderOf(path));
}

Status SyncDirectory(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + path);
  if (::fsync(fd.get()) != 0) return ErrnoError(errno, "fsync " + path);
  return OkStatus();
}

Status WriteAll(int fd, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoError(errno, "write");
    data = data.subspan(static_cast<size_t>(put));
  }
  return OkStatus();
}

}  // namespace bootstream
