#include "initramfs/system/read_files.h"

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <thread>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

// So many files are waited for at once: each may be a round trip to the server.
constexpr size_t kReaders = 24;
constexpr size_t kReadBytes = size_t{128} << 10;

class Glob {
 public:
  explicit Glob(const std::string& pattern) {
    found_ = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &glob_) == 0;
  }
  ~Glob() {
    if (found_) ::globfree(&glob_);
  }
  Glob(const Glob&) = delete;
  Glob& operator=(const Glob&) = delete;
  size_t size() const { return found_ ? glob_.gl_pathc : 0; }
  const char* operator[](size_t i) const { return glob_.gl_pathv[i]; }

 private:
  glob_t glob_{};
  bool found_;
};

UniqueFd OpenToRead(const char* path) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  UniqueFd fd(::open(path, kFlags | O_NOATIME));
  if (!fd && errno == EPERM) fd.reset(::open(path, kFlags));
  return fd;
}

// REQUIRES: a regular file, or one that was that a moment ago.
void ReadFile(const char* path) {
  const UniqueFd fd = OpenToRead(path);
  if (!fd) return;
  std::vector<char> buffer(kReadBytes);
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n == 0 || (n < 0 && errno != EINTR)) return;
  }
}

void ReadFolder(const char* path, dev_t device) {
  std::error_code error;
  fs::recursive_directory_iterator entry(path, error);
  while (!error && entry != fs::recursive_directory_iterator()) {
    struct stat info {};
    const bool there = ::stat(entry->path().c_str(), &info) == 0;
    if (there && S_ISREG(info.st_mode)) ReadFile(entry->path().c_str());
    if (!there || info.st_dev != device) entry.disable_recursion_pending();
    entry.increment(error);
  }
}

void ReadOne(const char* path) {
  struct stat info {};
  if (::stat(path, &info) != 0) return;
  if (S_ISREG(info.st_mode)) ReadFile(path);
  if (S_ISDIR(info.st_mode)) ReadFolder(path, info.st_dev);
}

void ReadAll(const std::vector<std::string>& paths) {
  std::atomic<size_t> next = 0;
  const auto read = [&] {
    for (size_t i = next++; i < paths.size(); i = next++) {
      const Glob found(paths[i]);
      for (size_t n = 0; n < found.size(); ++n) ReadOne(found[n]);
    }
  };
  std::vector<std::jthread> readers;
  for (size_t i = 0; i < kReaders; ++i) readers.emplace_back(read);
}

int ReadIn(const std::string& root, const std::vector<std::string>& paths) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // A connection to the driver, above all: who waits for the server must not
  // keep it open.
  ::close_range(3, ~0U, 0);
  // Links are to lead where they will when this is the root.
  if (::chroot(root.c_str()) != 0 || ::chdir("/") != 0) return 1;
  ReadAll(paths);
  return 0;
}

}  // namespace

Status ReadFiles(const std::string& root, const std::vector<std::string>& paths,
                 Deadline deadline) {
  const auto code = RunInChild([&] { return ReadIn(root, paths); }, deadline);
  if (!code) {
    if (code.error().code != ErrorCode::kUnavailable) return code.error();
    return Error{ErrorCode::kUnavailable,
                 "not all that is read has come from the server in time"};
  }
  if (*code == 0) return OkStatus();
  return Error{ErrorCode::kIo, "files could not be read in " + root};
}

}  // namespace bootstream
