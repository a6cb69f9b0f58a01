#include "initramfs/system/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

constexpr size_t kOutputBytesMax = size_t{1} << 20;

// While it lives, this process passes over Ctrl-C.
class WithoutInterrupts {
 public:
  WithoutInterrupts() {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGINT, &ignore, &before_);
  }
  ~WithoutInterrupts() { ::sigaction(SIGINT, &before_, nullptr); }
  WithoutInterrupts(const WithoutInterrupts&) = delete;
  WithoutInterrupts& operator=(const WithoutInterrupts&) = delete;

 private:
  struct sigaction before_ {};
};

// 0, or errno.  `output`: where what it writes goes; -1: where ours does.
int Spawn(char* const* words, int output, pid_t& child) {
  posix_spawnattr_t attributes;
  if (const int e = ::posix_spawnattr_init(&attributes); e != 0) return e;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  ::posix_spawnattr_setsigdefault(&attributes, &set);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  if (output >= 0) {
    ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null",
                                       O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
  }
  const int error =
      ::posix_spawnp(&child, words[0], &files, &attributes, words, environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  return error;
}

Result<pid_t> Start(const std::vector<std::string>& command, int output) {
  std::vector<char*> words;
  words.reserve(command.size() + 1);
  for (const std::string& word : command) {
    words.push_back(const_cast<char*>(word.c_str()));
  }
  words.push_back(nullptr);
  pid_t child = -1;
  const int error = Spawn(words.data(), output, child);
  if (error == ENOENT) {
    return Error{ErrorCode::kNotFound,
                 command.front() + " is not installed on this system"};
  }
  if (error != 0) return ErrnoError(error, "run " + command.front());
  return child;
}

Result<int> WaitFor(pid_t child, const std::string& name) {
  int how = 0;
  while (::waitpid(child, &how, 0) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "wait for " + name);
  }
  return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

// Milliseconds for poll(2).
int Left(const Deadline& deadline) {
  if (!deadline) return -1;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      *deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1 << 30));
}

// Killed; if it can end, it does so now.
Error GiveUp(pid_t child, const std::string& name) {
  ::kill(child, SIGKILL);
  for (int i = 0; i < 100 && ::waitpid(child, nullptr, WNOHANG) == 0; ++i) {
    ::poll(nullptr, 0, 10);
  }
  return Error{ErrorCode::kUnavailable, name + " does not come to an end"};
}

// To its end; what is too much is read and dropped.  nullopt: it is not there
// by the deadline.
std::optional<std::string> ReadAll(int fd, const Deadline& deadline) {
  std::string text;
  char part[4096];
  for (;;) {
    pollfd ready{fd, POLLIN, 0};
    const int count = ::poll(&ready, 1, Left(deadline));
    if (count == 0) return std::nullopt;
    if (count < 0 && errno == EINTR) continue;
    const ssize_t n = ::read(fd, part, sizeof part);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    if (text.size() < kOutputBytesMax) text.append(part, n);
  }
}

}  // namespace

Result<int> RunProgram(const std::vector<std::string>& command) {
  const WithoutInterrupts ours;
  const auto child = Start(command, -1);
  if (!child) return child.error();
  return WaitFor(*child, command.front());
}

Result<ProgramOutput> RunForOutput(const std::vector<std::string>& command,
                                   Deadline deadline) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "pipe");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const WithoutInterrupts ours;
  const auto child = Start(command, to.get());
  to.reset();
  if (!child) return child.error();
  auto output = ReadAll(from.get(), deadline);
  if (!output) return GiveUp(*child, command.front());
  const auto code = WaitFor(*child, command.front());
  if (!code) return code.error();
  return ProgramOutput{*code, std::move(*output)};
}

Result<int> RunInChild(const std::function<int()>& work, Deadline deadline) {
  constexpr char kName[] = "a child of this process";
  const pid_t child = ::fork();
  if (child < 0) return ErrnoError(errno, "fork");
  if (child == 0) ::_exit(work());
  const UniqueFd handle(
      static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  if (!handle) return ErrnoError(errno, "pidfd_open");
  pollfd ended{handle.get(), POLLIN, 0};
  for (int count = 0; count <= 0;) {
    count = ::poll(&ended, 1, Left(deadline));
    if (count == 0) return GiveUp(child, kName);
    if (count < 0 && errno != EINTR) return ErrnoError(errno, "poll");
  }
  return WaitFor(child, kName);
}

std::string ProgramOutput::last_line() const {
  const size_t end = output.find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const size_t before = output.rfind('\n', end);
  const size_t begin = before == std::string::npos ? 0 : before + 1;
  return output.substr(begin, end + 1 - begin);
}

}  // namespace bootstream
