#ifndef INITRAMFS_DRIVER_CONTROL_SERVER_H_
#define INITRAMFS_DRIVER_CONTROL_SERVER_H_

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "blockmap/base/io_loop.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// One client, while it is connected.
struct ControlConnection {
  // Ends with the connection, if the handler does not end it before.
  std::shared_ptr<void> held;
};

// Answers JSON lines on a Unix socket (control.md), to root and to the user
// that it runs as; whoever else can connect is told so, and not listened to.
// Thread of the loop.
class ControlServer {
 public:
  // Gets a request object, gives the reply object, whenever it is ready.  The
  // connection outlives that.
  using Handler =
      std::function<Task<nlohmann::json>(nlohmann::json, ControlConnection&)>;

  // Bind `path` (an old socket there is replaced) with mode 0600 and listen.
  static Result<UniqueFd> Listen(const std::string& path);
  // Answer on a listening socket, whoever made it.
  static std::unique_ptr<ControlServer> Serve(IoLoop& loop, UniqueFd listener,
                                              Handler handler);
  // Hang up on everybody and take no more; returns when the last request has
  // been answered.  The listener is of no use to anybody afterwards.  REQUIRED
  // before destruction, unless the loop runs no more.
  Task<void> Stop();

 private:
  ControlServer(IoLoop& loop, UniqueFd fd, Handler handler)
      : loop_(loop), fd_(std::move(fd)), handler_(std::move(handler)) {}
  Task<void> AcceptLoop();
  Task<void> ServeClient(UniqueFd client);
  Task<void> Talk(int client);
  Task<nlohmann::json> Answer(std::string line, ControlConnection& connection);
  void EndIfIdle();

  IoLoop& loop_;
  UniqueFd fd_;
  Handler handler_;
  std::set<int> clients_;  // not owned
  bool accepting_ = true;
  Event ended_;
};

// `json` as a line of text, whatever bytes its strings hold: what is not UTF-8
// (a server's words, a name from the disk) is replaced.
std::string JsonLine(const nlohmann::json& json);

// `{"ok": false, "error": message}`
nlohmann::json ControlError(const std::string& message);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_CONTROL_SERVER_H_
