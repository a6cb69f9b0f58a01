#include "initramfs/recovery/recovery_command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iostream>

#include "blockmap/base/file_util.h"
#include "blockmap/base/unique_fd.h"
#include "initramfs/recovery/read_files.h"
#include "initramfs/recovery/recovery_list.h"

namespace bootstream {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr uint64_t kListBytesMax = uint64_t{16} << 20;

// The connection to the driver, above all: who waits for the server must not
// keep it open.
void CloseAllBut(int fd) {
  const auto kept = static_cast<unsigned>(fd);
  if (kept > 3) ::close_range(3, kept - 1, 0);
  ::close_range(std::max(kept + 1, 3U), ~0U, 0);
}

[[noreturn]] void ReadIn(const std::string& root,
                         const std::vector<std::string>& paths) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Links are to lead where they will when this is the root.
  if (::chroot(root.c_str()) != 0 || ::chdir("/") != 0) ::_exit(1);
  ReadFiles(paths);
  ::_exit(0);
}

// Whether the other end of the pipe `fd` is closed by `deadline`.
bool EndsBy(int fd, steady_clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(
        deadline - steady_clock::now());
    pollfd ready{fd, POLLIN, 0};
    const int count =
        ::poll(&ready, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (count >= 0 || errno != EINTR) return count > 0;
  }
}

// A process of its own reads: one that waits in the kernel for the server
// cannot be interrupted.  It is left behind, and ends when it can.
Status ReadInTime(const std::string& root,
                  const std::vector<std::string>& paths,
                  milliseconds patience) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "pipe");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const auto deadline = steady_clock::now() + patience;
  const pid_t child = ::fork();
  if (child < 0) return ErrnoError(errno, "fork");
  if (child == 0) {
    CloseAllBut(to.get());
    ReadIn(root, paths);
  }
  to.reset();
  if (!EndsBy(from.get(), deadline)) {
    ::kill(child, SIGKILL);
    return Error{ErrorCode::kUnavailable,
                 "not everything that the network needs to come back has come "
                 "from the server in time; the rest comes when it is read"};
  }
  int how = 0;
  while (::waitpid(child, &how, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(how) && WEXITSTATUS(how) == 0) return OkStatus();
  return Error{ErrorCode::kIo,
               "what the network needs to come back could not "
               "be read in " +
                   root};
}

}  // namespace

RecoveryCommand::RecoveryCommand(CLI::App& app) {
  command_ = app.add_subcommand("recovery-set",
                                "Have what the network needs to come back on "
                                "the disk, to stay while this "
                                "driver serves; of use at the start");
  command_->add_option("--root", root_, "Where the system is mounted")
      ->capture_default_str();
  command_->add_option("--list", list_, "File that names what it is")
      ->capture_default_str();
  command_
      ->add_option("--patience", patience_seconds_,
                   "Seconds to wait for the server")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
}

std::optional<int> RecoveryCommand::Run(ControlClient& client) const {
  if (!*command_) return std::nullopt;
  const Status status = ReadAll(client);
  if (status) return 0;
  std::cerr << "streamctl: " << status.error().message << "\n";
  return ExitCodeFor(status.error().code);
}

Status RecoveryCommand::ReadAll(ControlClient& client) const {
  const auto file = ReadWholeFile(list_, kListBytesMax);
  if (!file) return file.error();
  const auto paths =
      PathsOfList({reinterpret_cast<const char*>(file->data()), file->size()},
                  NetworkDrivers("/sys"));
  const auto begun =
      client.Ask({{"command", "recovery-set"}, {"action", "begin"}});
  if (!begun) return begun.error();
  if (begun->value("needed", json()) != true) return OkStatus();
  const milliseconds patience(static_cast<int64_t>(patience_seconds_ * 1000));
  const Status read = ReadInTime(root_, paths, patience);
  const auto ended =
      client.Ask({{"command", "recovery-set"}, {"action", "end"}});
  if (!read) return read;
  if (!ended) return ended.error();
  const json sentence = ended->value("sentence", json());
  if (sentence.is_string() && sentence != "") {
    std::cerr << "streamctl: " << sentence.get<std::string>() << "\n";
  }
  return OkStatus();
}

}  // namespace bootstream
