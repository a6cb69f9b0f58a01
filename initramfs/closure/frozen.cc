#include "initramfs/closure/frozen.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace bootstream {
namespace {

constexpr char kFreezing = 'f';  // the next one
constexpr char kFailed = 'x';    // that one is not ours to thaw

// The guard: nothing but system calls, for the program may lie on what is
// frozen.  `told` ends when its last writer has closed it.
[[noreturn]] void ThawLater(int told, const std::vector<UniqueFd>& directories,
                            int limit_ms) {
  size_t count = 0;
  for (;;) {
    char byte = 0;
    // From the last byte on, which comes when the last one is frozen.
    pollfd ready{told, POLLIN, 0};
    if (::poll(&ready, 1, limit_ms) == 0) break;
    const ssize_t n = ::read(told, &byte, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n != 1) break;
    byte == kFreezing ? ++count : --count;
  }
  while (count > 0) ::ioctl(directories[--count].get(), FITHAW, 0);
  ::_exit(0);
}

Status Tell(const UniqueFd& pipe, char byte) {
  if (::write(pipe.get(), &byte, 1) == 1) return OkStatus();
  return ErrnoError(errno, "write to a pipe");
}

void IgnoreSignals() {
  ::setsid();
  for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGPIPE}) {
    ::signal(number, SIG_IGN);
  }
}

}  // namespace

Result<Frozen> Frozen::Freeze(const std::vector<std::string>& mounts,
                              std::chrono::milliseconds limit) {
  std::vector<UniqueFd> directories;
  for (const std::string& mount : mounts) {
    directories.emplace_back(
        ::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directories.back()) return ErrnoError(errno, "open " + mount);
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "pipe");
  UniqueFd told(ends[0]);
  UniqueFd pipe(ends[1]);
  const pid_t guard = ::fork();
  if (guard < 0) return ErrnoError(errno, "fork");
  if (guard == 0) {
    IgnoreSignals();
    pipe.reset();
    ThawLater(told.get(), directories, static_cast<int>(limit.count()));
  }
  told.reset();
  Frozen frozen(std::move(pipe), guard);
  for (size_t i = 0; i < directories.size(); ++i) {
    if (auto s = Tell(frozen.pipe_, kFreezing); !s) return s.error();
    if (::ioctl(directories[i].get(), FIFREEZE, 0) == 0) continue;
    Error error = ErrnoError(errno, "freeze " + mounts[i]);
    (void)Tell(frozen.pipe_, kFailed);
    return error;
  }
  return frozen;
}

Frozen::~Frozen() {
  if (!pipe_) return;
  pipe_.reset();
  while (::waitpid(guard_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace bootstream
