#include "initramfs/driver/status_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace bootstream {

Result<StatusFile> StatusFile::Open(const std::string& path) {
  const std::filesystem::path full(path);
  const std::filesystem::path parent =
      full.has_parent_path() ? full.parent_path() : ".";
  std::error_code error;
  std::filesystem::create_directories(parent, error);
  UniqueFd fd(::open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, parent.string());
  return In(std::move(fd), path);
}

StatusFile StatusFile::In(UniqueFd directory, const std::string& path) {
  return StatusFile(std::move(directory),
                    std::filesystem::path(path).filename());
}

Status StatusFile::Replace(const std::string& text) {
  if (text == last_) return OkStatus();
  const std::string fresh = "." + name_ + ".new";
  UniqueFd fd(::openat(directory_.get(), fresh.c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return ErrnoError(errno, fresh);
  if (::fchmod(fd.get(), 0644) != 0) return ErrnoError(errno, fresh);
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(errno, fresh);
    done += static_cast<size_t>(n);
  }
  if (::renameat(directory_.get(), fresh.c_str(), directory_.get(),
                 name_.c_str()) != 0) {
    return ErrnoError(errno, "rename " + name_);
  }
  last_ = text;
  return OkStatus();
}

}  // namespace bootstream
