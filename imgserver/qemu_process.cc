#include "imgserver/qemu_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace bootstream {

Result<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::vector<std::string>& arguments) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "pipe");
  UniqueFd reading(ends[0]);
  const UniqueFd writing(ends[1]);
  if (::fcntl(reading.get(), F_SETFL, O_NONBLOCK) != 0) {
    return ErrnoError(errno, "fcntl");
  }
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const auto& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), 2);
  pid_t pid = 0;
  const int error =
      ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) {
    return Error{ErrorCode::kNotFound,
                 arguments[0] +
                     " is not installed; apt install "
                     "qemu-system-x86 qemu-block-extra ovmf"};
  }
  if (error != 0) return ErrnoError(error, "start " + arguments[0]);
  return std::unique_ptr<ChildProcess>(
      new ChildProcess(pid, std::move(reading)));
}

ChildProcess::~ChildProcess() {
  Kill();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ChildProcess::Kill() const { ::kill(pid_, SIGKILL); }

std::vector<std::string> QemuCommand(const MachineOptions& options) {
  std::vector<std::string> command = {
      // QEMU ends when we do, whatever our end is.
      "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-name",
      "bootstream-trace", "-accel", options.accel, "-smp", "1", "-m",
      std::to_string(options.memory_mib), "-nodefaults", "-display", "none",
      "-device", "VGA", "-no-reboot", "-serial", "stdio", "-blockdev",
      "driver=nbd,node-name=disk,server.type=unix,server.path=" +
          options.disk_socket,
      "-device", "virtio-blk-pci,drive=disk,bootindex=0",
      // A network that answers DHCP and leads nowhere.
      "-netdev", "user,id=net,restrict=on", "-device",
      "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"};
  if (options.firmware == Firmware::kUefi) {
    for (const std::string& drive :
         {std::string("unit=0,readonly=on,file=") + kOvmfCode,
          "unit=1,file=" + options.variables_file}) {
      command.push_back("-drive");
      command.push_back("if=pflash,format=raw," + drive);
    }
  }
  return command;
}

}  // namespace bootstream
