#ifndef BLOCKMAP_NBD_NBD_SERVER_H_
#define BLOCKMAP_NBD_NBD_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "blockmap/nbd/nbd_session.h"

namespace bootstream {

// A listening Unix socket at `path`, for the owner alone.  One left over by a
// dead process is replaced; one where somebody answers is kUnavailable.
Result<UniqueFd> ListenForNbd(const std::string& path);

// Serves a BlockService to any number of NBD clients on one listening socket.
// All clients see the same bytes: a flush on one connection covers writes that
// were answered on another.  Runs on the loop's thread.
class NbdServer {
 public:
  static constexpr size_t kClientsMax = 256;

  // ListenForNbd, and remove the socket at the end.  `loop` and `service` must
  // outlive the server.
  static Result<std::unique_ptr<NbdServer>> Listen(IoLoop& loop,
                                                   BlockService& service,
                                                   const std::string& path,
                                                   NbdOptions options);
  // Take over a listening stream socket, whoever made it.
  static Result<std::unique_ptr<NbdServer>> Adopt(IoLoop& loop,
                                                  BlockService& service,
                                                  UniqueFd listener,
                                                  NbdOptions options);
  // REQUIRES: Stop has returned, or the loop never runs again.
  ~NbdServer();
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;

  // No new connections, no new requests; those in hand are answered.  The
  // socket made by Listen is removed.  Call once.
  Task<Status> Stop();
  size_t client_count() const { return sessions_.size(); }

 private:
  NbdServer(IoLoop& loop, BlockService& service, UniqueFd listener,
            NbdOptions options)
      : loop_(loop),
        service_(service),
        options_(std::move(options)),
        listener_(std::move(listener)) {}

  Task<void> AcceptClients();
  Task<void> RunSession(UniqueFd socket);
  void Log(const std::string& line) const;

  IoLoop& loop_;
  BlockService& service_;
  const NbdOptions options_;
  UniqueFd listener_;
  std::string path_;  // empty: not ours to remove
  std::vector<std::unique_ptr<NbdSession>> sessions_;
  bool stopping_ = false;
  Event accept_ended_;
  Event sessions_ended_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_NBD_NBD_SERVER_H_
