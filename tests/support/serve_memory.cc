// Serves memory, or a file mapped into it, through any front end: to try front
// ends and their clients.  Prints "ready PATH" when clients may come.  SIGTERM
// stops it; SIGKILL is a fair test too, for what was written to a --file stays.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "blockmap/base/posix_block_device.h"
#include "initramfs/frontend/fuse_frontend.h"
#include "initramfs/frontend/nbd_frontend.h"
#include "initramfs/frontend/socket_frontend.h"
#include "initramfs/frontend/ublk_frontend.h"
#include "tests/support/memory_service.h"

namespace bootstream {
namespace {

struct Arguments {
  std::string frontend = "socket";
  std::string path;
  std::string file;
  std::string identifier;
  uint64_t size_bytes = 64 << 20;
  bool hold_reads = false;
};

void LogToStderr(const std::string& line) {
  std::fprintf(stderr, "serve_memory: %s\n", line.c_str());
}

std::unique_ptr<Frontend> Make(IoLoop& loop, BlockService& service,
                               const Arguments& arguments) {
  if (arguments.frontend == "fuse") {
    FuseFrontendOptions options;
    if (!arguments.path.empty()) options.directory = arguments.path;
    options.log = LogToStderr;
    return MakeFuseFrontend(loop, service, std::move(options));
  }
  if (arguments.frontend == "nbd") {
    NbdFrontendOptions options;
    options.identifier = arguments.identifier;
    options.nbd.log = LogToStderr;
    return MakeNbdFrontend(loop, service, std::move(options));
  }
  if (arguments.frontend == "ublk") {
    UblkFrontendOptions options;
    options.name = std::hash<std::string>()(arguments.identifier);
    options.log = LogToStderr;
    return MakeUblkFrontend(loop, service, std::move(options));
  }
  SocketFrontendOptions options;
  options.path = arguments.path;
  options.nbd.log = LogToStderr;
  return MakeSocketFrontend(loop, service, std::move(options));
}

Result<std::span<std::byte>> MapMemory(const Arguments& arguments) {
  uint64_t size = arguments.size_bytes;
  UniqueFd fd;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  if (!arguments.file.empty()) {
    fd.reset(::open(arguments.file.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return ErrnoError(errno, arguments.file);
    const auto file_size = DiskSizeBytes(fd.get());
    if (!file_size) return file_size.error();
    size = *file_size;
    flags = MAP_SHARED;
  }
  void* memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd.get(), 0);
  if (memory == MAP_FAILED) return ErrnoError(errno, "mmap");
  return std::span(static_cast<std::byte*>(memory), size);
}

Task<Status> Serve(IoLoop& loop, Frontend& frontend, int signals) {
  const auto path = co_await frontend.Start();
  if (!path) co_return path.error();
  std::printf("ready %s\n", path->c_str());
  std::fflush(stdout);
  while (true) {
    co_await loop.Poll(signals, POLLIN);
    signalfd_siginfo info;
    if (::read(signals, &info, sizeof info) != sizeof info) continue;
    Status stopped = co_await frontend.Stop();
    if (stopped || stopped.error().code != ErrorCode::kRefused) {
      co_return stopped;
    }
    LogToStderr(stopped.error().message);
  }
}

Status Run(const Arguments& arguments) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  ::sigprocmask(SIG_BLOCK, &mask, nullptr);
  const UniqueFd signals(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return ErrnoError(errno, "signalfd");
  auto memory = MapMemory(arguments);
  if (!memory) return memory.error();
  auto loop = IoLoop::Create();
  if (!loop) return loop.error();
  MemoryService service(*memory);
  Event never;
  if (arguments.hold_reads) service.HoldReads(&never);
  const auto frontend = Make(**loop, service, arguments);
  return (*loop)->RunUntilDone(Serve(**loop, *frontend, signals.get()));
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) {
  bootstream::Arguments arguments;
  CLI::App app("Serve memory through a front end.");
  app.add_option("--frontend", arguments.frontend, "socket, ublk, nbd or fuse")
      ->check(CLI::IsMember({"socket", "ublk", "nbd", "fuse"}));
  app.add_option("--path", arguments.path, "socket, or directory for fuse");
  app.add_option("--file", arguments.file, "content; instead of --size");
  app.add_option("--identifier", arguments.identifier,
                 "ublk, nbd: for taking over");
  app.add_option("--size", arguments.size_bytes, "bytes, all zero");
  app.add_flag("--hold-reads", arguments.hold_reads, "answer no read");
  CLI11_PARSE(app, argc, argv);
  const auto status = bootstream::Run(arguments);
  if (status) return 0;
  bootstream::LogToStderr(status.error().message);
  return bootstream::ExitCodeFor(status.error().code);
}
