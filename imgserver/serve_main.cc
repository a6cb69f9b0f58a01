#include "imgserver/serve_main.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>

#include "imgserver/access_log.h"
#include "imgserver/config.h"
#include "imgserver/image_store.h"
#include "imgserver/server.h"

namespace bootstream {
namespace {

// The signals that RunServe() waits for.  Blocked before the first thread
// starts, so that no other thread gets one.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    sigaddset(&signals, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return signals;
}

// A connection needs a socket and, while it is answered, a file.
void RaiseOpenFileLimit(uint32_t connections_max) {
  const rlim_t wanted = rlim_t{connections_max} * 2 + 64;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) {
    return;
  }
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < wanted) {
    std::fprintf(stderr,
                 "imgserver: warning: only %ju open files are allowed, %u "
                 "connections may need %ju; raise the limit (LimitNOFILE=)\n",
                 static_cast<uintmax_t>(limit.rlim_cur), connections_max,
                 static_cast<uintmax_t>(wanted));
  }
}

// Appears whole, under its name, or not at all.
Status WritePortFile(const std::string& file, uint16_t port) {
  const std::string temporary = file + ".new";
  std::ofstream out(temporary);
  out << port << '\n';
  out.close();
  if (!out || std::rename(temporary.c_str(), file.c_str()) != 0) {
    return ErrnoError(errno, "port file " + file);
  }
  return OkStatus();
}

void WaitForEnd(const sigset_t& signals, AccessLog& log) {
  int signal = 0;
  while (::sigwait(&signals, &signal) != 0 || signal == SIGHUP) {
    const auto reopened = log.Reopen();
    if (!reopened) {
      std::fprintf(stderr, "imgserver: warning: %s\n",
                   reopened.error().message.c_str());
    }
  }
}

}  // namespace

Status RunServe(const ServeOptions& options) {
  ServerConfig config;
  if (!options.config_file.empty()) {
    const auto loaded = LoadConfig(options.config_file);
    if (!loaded) return loaded.error();
    config = *loaded;
  }
  const sigset_t signals = BlockSignals();
  const auto store = ImageStore::Open(options.repo);
  if (!store) return store.error();
  const auto log = AccessLog::Open(options.access_log);
  if (!log) return log.error();
  RaiseOpenFileLimit(config.connections_max);
  const auto server = Server::Start(options.listen, config, *store, **log);
  if (!server) return server.error();

  std::fprintf(stderr, "imgserver: serving %s at http://%s\n",
               options.repo.c_str(), (*server)->address().c_str());
  if (!options.port_file.empty()) {
    auto written = WritePortFile(options.port_file, (*server)->port());
    if (!written) return written;
  }
  WaitForEnd(signals, **log);
  (*server)->Stop();
  return OkStatus();
}

}  // namespace bootstream
