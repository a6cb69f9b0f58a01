#ifndef IMGSERVER_SERVER_H_
#define IMGSERVER_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"
#include "imgserver/access_log.h"
#include "imgserver/admission.h"
#include "imgserver/client_address.h"
#include "imgserver/config.h"
#include "imgserver/image_store.h"

namespace bootstream {

class Worker;

// The HTTP server: a listening socket, a thread that accepts, and a worker
// thread a core, each with connections of its own.  imgserver/protocol.md says
// what it answers.  Writing to a socket whose client left raises SIGPIPE: the
// program ignores that signal before it starts a server.
class Server {
 public:
  // Listen on `address` ("127.0.0.1:8080") and serve `store`.  `store` and
  // `log` must outlive the server.
  static Result<std::unique_ptr<Server>> Start(const std::string& address,
                                               const ServerConfig& config,
                                               const ImageStore& store,
                                               AccessLog& log);
  // Cuts what is still open, unless Stop() was called.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Accept no more, finish the answers in hand or cut them after
  // stop_timeout_ms, and return when that is done.
  void Stop();

  // Where it really listens.
  std::string address() const { return FormatSocketAddress(address_); }
  uint16_t port() const { return PortOf(address_); }

 private:
  Server(UniqueFd listener, UniqueFd wake, const SocketAddress& address,
         const ServerConfig& config, const ImageStore& store, AccessLog& log);
  void StopAccepting();
  void AcceptUntilStopped();
  // False if nothing more can be accepted for now.
  bool AcceptOne();
  void Admit(UniqueFd socket, const SocketAddress& client);

  const ServerConfig config_;
  AccessLog& log_;
  const SocketAddress address_;
  UniqueFd listener_;
  UniqueFd wake_;  // an eventfd that ends the accepting thread
  Admission admission_;
  std::vector<std::unique_ptr<Worker>> workers_;
  size_t next_worker_ = 0;
  std::thread acceptor_;
};

}  // namespace bootstream

#endif  // IMGSERVER_SERVER_H_
