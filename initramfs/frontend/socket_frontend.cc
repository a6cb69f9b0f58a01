#include "initramfs/frontend/socket_frontend.h"

#include <utility>

namespace bootstream {
namespace {

class SocketFrontend final : public Frontend {
 public:
  SocketFrontend(IoLoop& loop, BlockService& service,
                 SocketFrontendOptions options)
      : loop_(loop), service_(service), options_(std::move(options)) {}

  Task<Result<std::string>> Start() override {
    auto server =
        options_.listener
            ? NbdServer::Adopt(loop_, service_, std::move(options_.listener),
                               std::move(options_.nbd))
            : NbdServer::Listen(loop_, service_, options_.path,
                                std::move(options_.nbd));
    if (!server) co_return std::move(server.error());
    server_ = std::move(*server);
    co_return options_.path;
  }

  Task<Status> Stop() override { return server_->Stop(); }

 private:
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
