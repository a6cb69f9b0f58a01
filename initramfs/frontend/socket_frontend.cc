#include "initramfs/frontend/socket_frontend.h"

#include <unistd.h>

#include <utility>

namespace bootstream {
namespace {

constexpr char kKeptName[] = "nbd-socket";

class SocketFrontend final : public Frontend {
 public:
  SocketFrontend(IoLoop& loop, BlockService& service,
                 SocketFrontendOptions options)
      : loop_(loop), service_(service), options_(std::move(options)) {}

  Task<Result<std::string>> Start() override {
    auto listener = TakeListener();
    if (!listener) co_return std::move(listener.error());
    auto server = NbdServer::Adopt(loop_, service_, std::move(*listener),
                                   std::move(options_.nbd));
    if (!server) co_return std::move(server.error());
    server_ = std::move(*server);
    co_return options_.path;
  }

  Task<Status> Stop() override {
    // Before it goes deaf: a client finds no socket rather than no answer.
    ::unlink(options_.path.c_str());
    return server_->Stop();
  }

 private:
  Result<UniqueFd> TakeListener() {
    FdStore* kept = options_.kept;
    UniqueFd inherited = kept != nullptr ? kept->Take(kKeptName) : UniqueFd();
    if (inherited) return inherited;
    auto made = ListenForNbd(options_.path);
    if (!made || kept == nullptr) return made;
    if (auto s = kept->Keep(kKeptName, made->get()); !s) return s.error();
    return made;
  }

  IoLoop& loop_;
  BlockService& service_;
  SocketFrontendOptions options_;
  std::unique_ptr<NbdServer> server_;
};

}  // namespace

std::unique_ptr<Frontend> MakeSocketFrontend(IoLoop& loop,
                                             BlockService& service,
                                             SocketFrontendOptions options) {
  return std::make_unique<SocketFrontend>(loop, service, std::move(options));
}

}  // namespace bootstream
