#include "initramfs/source/run_program.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

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

// 0, or errno.
int Spawn(char* const* words, ProgramOutput output, pid_t& child) {
  posix_spawnattr_t attributes;
  if (const int e = ::posix_spawnattr_init(&attributes); e != 0) return e;
  posix_spawn_file_actions_t actions;
  if (const int e = ::posix_spawn_file_actions_init(&actions); e != 0) {
    ::posix_spawnattr_destroy(&attributes);
    return e;
  }
  if (output == ProgramOutput::kToStandardError) {
    ::posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  ::posix_spawnattr_setsigdefault(&attributes, &set);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  const int error =
      ::posix_spawnp(&child, words[0], &actions, &attributes, words, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  return error;
}

}  // namespace

Result<int> RunProgram(const std::vector<std::string>& command,
                       ProgramOutput output) {
  std::vector<char*> words;
  words.reserve(command.size() + 1);
  for (const std::string& word : command) {
    words.push_back(const_cast<char*>(word.c_str()));
  }
  words.push_back(nullptr);
  const WithoutInterrupts ours;
  pid_t child = -1;
  const int error = Spawn(words.data(), output, child);
  if (error == ENOENT) {
    return Error{ErrorCode::kNotFound,
                 command.front() + " is not installed on this system"};
  }
  if (error != 0) return ErrnoError(error, "run " + command.front());
  int how = 0;
  while (::waitpid(child, &how, 0) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "wait for " + command.front());
  }
  return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

}  // namespace bootstream
