// Serves a disk file as an NBD export with a volatile cache, for a virtual
// machine whose power is going to be cut.  Prints "ready"; then commands come
// by standard input, a line each, and each is answered by a line of JSON:
//
//   victim PID            the process that ends when the power goes
//   write-back            everything written is durable; for a snapshot
//   mark                  count writes and flushes from here
//   counts                {"writes", "flushes", "unflushed"}
//   cut-at-write N SEED   the power goes when write N since the mark arrives
//   cut-at-flush N SEED
//   cut SEED              the power goes now
//
// When it has gone: {"cut": {"writes", "flushes", "unflushed", "kept",
// "dropped", "torn", "by_command": 0|1}}, and the end; nothing is answered to
// the machine any more.  Standard input ends: everything written is kept.

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <sstream>

#include "blockmap/nbd/nbd_server.h"
#include "tests/support/volatile_disk.h"

namespace bootstream {
namespace {

struct Arguments {
  std::string file;
  std::string socket;
  uint64_t cache_mib = VolatileDisk::kCacheBytes >> 20;
};

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

std::string Member(const char* name, uint64_t value) {
  return "\"" + std::string(name) + "\": " + std::to_string(value);
}

std::string Members(const VolatileDisk::Counts& counts) {
  return Member("writes", counts.writes) + ", " +
         Member("flushes", counts.flushes);
}

class Commands {
 public:
  explicit Commands(VolatileDisk& disk) : disk_(disk) {
    disk_.set_on_cut([this](const VolatileDisk::Outcome& o) { OnCut(o); });
  }
  // `line` without its end.
  void Obey(const std::string& line);

 private:
  [[noreturn]] void OnCut(const VolatileDisk::Outcome& outcome);

  VolatileDisk& disk_;
  pid_t victim_ = 0;
  bool by_command_ = false;
};

void Commands::Obey(const std::string& line) {
  std::istringstream words(line);
  std::string verb;
  uint64_t first = 0, second = 0;
  words >> verb >> first >> second;
  if (verb == "victim" && first > 1) {
    victim_ = static_cast<pid_t>(first);
  } else if (verb == "write-back") {
    if (auto s = disk_.WriteBack(); !s) {
      return Say("{\"error\": \"cannot write back\"}");
    }
  } else if (verb == "mark") {
    disk_.Mark();
  } else if (verb == "cut-at-write" && first > 0) {
    disk_.CutAtWrite(first, second);
  } else if (verb == "cut-at-flush" && first > 0) {
    disk_.CutAtFlush(first, second);
  } else if (verb == "cut") {
    by_command_ = true;
    disk_.CutPower(first);
  } else if (verb != "counts") {
    return Say("{\"error\": \"unknown command\"}");
  }
  const auto counts = disk_.counts();
  Say("{" + Members(counts) + ", " + Member("unflushed", counts.unflushed) +
      "}");
}

// In the middle of a request, or of a command: there is no way back.
void Commands::OnCut(const VolatileDisk::Outcome& outcome) {
  if (victim_ > 1) ::kill(victim_, SIGKILL);
  if (!outcome.status) {
    std::fprintf(stderr, "serve_volatile: %s\n",
                 outcome.status.error().message.c_str());
    ::_exit(1);
  }
  Say("{\"cut\": {" + Members(disk_.counts()) + ", " +
      Member("unflushed", outcome.unflushed) + ", " +
      Member("kept", outcome.kept) + ", " + Member("dropped", outcome.dropped) +
      ", " + Member("torn", outcome.torn) + ", " +
      Member("by_command", by_command_ ? 1 : 0) + "}}");
  ::_exit(0);
}

Task<Status> ObeyUntilEnd(IoLoop& loop, Commands& commands) {
  std::string text;
  while (true) {
    co_await loop.Poll(STDIN_FILENO, POLLIN);
    std::array<char, 4096> buffer{};
    const ssize_t n = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) co_return ErrnoError(errno, "standard input");
    if (n == 0) co_return OkStatus();
    text.append(buffer.data(), static_cast<size_t>(n));
    for (size_t end = text.find('\n'); end != std::string::npos;
         end = text.find('\n')) {
      commands.Obey(text.substr(0, end));
      text.erase(0, end + 1);
    }
  }
}

Task<Status> Serve(IoLoop& loop, VolatileDisk& disk, NbdServer& server) {
  Commands commands(disk);
  Say("ready");
  Status status = co_await ObeyUntilEnd(loop, commands);
  Status stopped = co_await server.Stop();
  if (status && !stopped) status = stopped;
  if (!status) co_return status;
  co_return disk.WriteBack();
}

Status Run(const Arguments& arguments) {
  ::signal(SIGPIPE, SIG_IGN);
  auto disk = VolatileDisk::Open(arguments.file, arguments.cache_mib << 20);
  if (!disk) return disk.error();
  auto loop = IoLoop::Create();
  if (!loop) return loop.error();
  NbdOptions options;
  options.log = [](const std::string& line) {
    std::fprintf(stderr, "serve_volatile: %s\n", line.c_str());
  };
  auto server =
      NbdServer::Listen(**loop, **disk, arguments.socket, std::move(options));
  if (!server) return server.error();
  return (*loop)->RunUntilDone(Serve(**loop, **disk, **server));
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) {
  bootstream::Arguments arguments;
  CLI::App app("Serve a disk file with a volatile cache.", "serve_volatile");
  app.add_option("--file", arguments.file, "raw disk")->required();
  app.add_option("--socket", arguments.socket, "NBD, Unix")->required();
  app.add_option("--cache", arguments.cache_mib, "MiB, at most")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto status = bootstream::Run(arguments);
  if (status) return 0;
  std::fprintf(stderr, "serve_volatile: %s\n", status.error().message.c_str());
  return bootstream::ExitCodeFor(status.error().code);
}
