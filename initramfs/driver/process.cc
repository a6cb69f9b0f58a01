#include "initramfs/driver/process.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "blockmap/base/buffer_memory.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

namespace bootstream {
namespace {

// The largest that mallopt(3) takes: a map of its own would be populated anew
// each time.
constexpr int kLargestOnHeap = 32 << 20;
constexpr int kNeverTrimmed = 1 << 30;
constexpr int kHeapGrowth = 64 << 10;
constexpr size_t kHeapReserveBytes = size_t{8} << 20;
// Most of it for requests (kReadPayloadBytesMax, kWritePayloadBytesMax).
constexpr size_t kBufferReserveBytes = size_t{6} << 20;
constexpr size_t kThreadStackBytes = size_t{512} << 10;

void WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

// The first byte is the exit code, the rest is to be printed.
[[noreturn]] void PassOn(int pipe) {
  std::string message;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t n = ::read(pipe, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    message.append(buffer.data(), static_cast<size_t>(n));
  }
  if (message.empty()) {
    WriteAll(STDERR_FILENO, "streamd: ended before it was ready\n");
    ::_exit(1);
  }
  const int code = static_cast<unsigned char>(message[0]);
  WriteAll(code == 0 ? STDOUT_FILENO : STDERR_FILENO,
           std::string_view(message).substr(1));
  ::_exit(code);
}

Status WriteFile(const char* path, std::string_view text) {
  UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), text.data(), text.size()) < 0) {
    return ErrnoError(errno, path);
  }
  return OkStatus();
}

}  // namespace

Result<Daemonizer> Daemonizer::Fork() {
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "pipe");
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return ErrnoError(errno, "fork");
  if (child > 0) {
    writer.reset();
    PassOn(reader.get());
  }
  ::setsid();
  return Daemonizer(std::move(writer));
}

void Daemonizer::Tell(char exit_code, const std::string& line) {
  if (!pipe_) return;
  WriteAll(pipe_.get(), std::string(1, exit_code) + line + "\n");
  pipe_.reset();
}

void Daemonizer::Ready(const std::string& line) { Tell(0, line); }

void Daemonizer::Failed(const std::string& line, int exit_code) {
  Tell(static_cast<char>(exit_code), line);
}

Status LockMemory() {
  if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    return ErrnoError(errno, "mlockall");
  }
  return OkStatus();
}

Status BecomeRootStorage(char** argv) {
  argv[0][0] = '@';
  if (auto s = LockMemory(); !s) return s;
  if (auto s = WriteFile("/proc/self/oom_score_adj", "-1000"); !s) return s;
  // Whoever takes a core dump lies on the device that has just lost its driver.
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return ErrnoError(errno, "PR_SET_DUMPABLE");
  }
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) {
    return ErrnoError(errno, "PR_SET_IO_FLUSHER");
  }
  return OkStatus();
}

void ReserveMemory() {
  ::mallopt(M_MMAP_THRESHOLD, kLargestOnHeap);
  ::mallopt(M_TRIM_THRESHOLD, kNeverTrimmed);
  ::mallopt(M_TOP_PAD, kHeapGrowth);
  void* volatile heap = std::malloc(kHeapReserveBytes);
  std::free(heap);
  ReserveBufferMemory(kBufferReserveBytes);
}

Status RunFirst() {
  sched_param parameter{};
  parameter.sched_priority = 1;
  if (::sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameter) !=
      0) {
    return ErrnoError(errno, "SCHED_RR");
  }
  return OkStatus();
}

UniqueFd ForbidHibernation() {
  return UniqueFd(static_cast<int>(::syscall(SYS_memfd_secret, O_CLOEXEC)));
}

void UseLittleMemory() {
  ::mallopt(M_ARENA_MAX, 1);
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kThreadStackBytes);
  ::pthread_setattr_default_np(&attributes);
  ::pthread_attr_destroy(&attributes);
}

Status LeaveMounts() {
  if (::unshare(CLONE_NEWNS) != 0) return ErrnoError(errno, "unshare");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return ErrnoError(errno, "mounts of its own");
  }
  return OkStatus();
}

Status ShowIn(const std::string& root, const std::string& path) {
  const std::string there = root + path;
  std::error_code error;
  std::filesystem::create_directories(there, error);
  if (error) return ErrnoError(error.value(), there);
  if (::mount(path.c_str(), there.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return ErrnoError(errno, "bind " + path);
  }
  return OkStatus();
}

}  // namespace bootstream
