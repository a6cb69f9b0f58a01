#include "initramfs/source/run_program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

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

// 0, or errno.  With `output` that is its standard output, and errors go
// nowhere.
int Spawn(char* const* words, int output, pid_t& child) {
  posix_spawnattr_t attributes;
  if (const int e = ::posix_spawnattr_init(&attributes); e != 0) return e;
  posix_spawn_file_actions_t files;
  if (const int e = ::posix_spawn_file_actions_init(&files); e != 0) {
    ::posix_spawnattr_destroy(&attributes);
    return e;
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  ::posix_spawnattr_setsigdefault(&attributes, &set);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  int error = 0;
  if (output >= 0) {
    error = ::posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    if (error == 0) {
      error = ::posix_spawn_file_actions_addopen(&files, STDERR_FILENO,
                                                 "/dev/null", O_WRONLY, 0);
    }
  }
  if (error == 0) {
    error =
        ::posix_spawnp(&child, words[0], &files, &attributes, words, environ);
  }
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
  if (error == 0) return child;
  if (error == ENOENT) {
    return Error{ErrorCode::kNotFound,
                 command.front() + " is not installed on this system"};
  }
  return ErrnoError(error, "run " + command.front());
}

Result<int> WaitFor(pid_t child, const std::string& name) {
  int how = 0;
  while (::waitpid(child, &how, 0) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "wait for " + name);
  }
  return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

// All that comes, to its end.
std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

Result<int> RunProgram(const std::vector<std::string>& command) {
  const WithoutInterrupts ours;
  const auto child = Start(command, -1);
  if (!child) return child.error();
  return WaitFor(*child, command.front());
}

Result<ProgramOutput> ReadProgram(const std::vector<std::string>& command) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "pipe");
  const UniqueFd output(ends[0]);
  UniqueFd input(ends[1]);
  const WithoutInterrupts ours;
  const auto child = Start(command, input.get());
  input.reset();
  if (!child) return child.error();
  ProgramOutput result;
  result.text = ReadAll(output.get());
  const auto code = WaitFor(*child, command.front());
  if (!code) return code.error();
  result.exit_code = *code;
  return result;
}

}  // namespace bootstream
