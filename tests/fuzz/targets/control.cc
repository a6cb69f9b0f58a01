// Both ends of the driver's control socket: requests as anybody may send them
// (control_request), and replies as streamctl may get them (control_reply).

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "initramfs/driver/control_client.h"
#include "initramfs/driver/control_server.h"
#include "initramfs/driver/kept_backfill.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {
namespace {

// Less than a Unix socket holds, for nobody reads while we write.
constexpr size_t kTalkBytesMax = 128 << 10;

std::string MakeSocketPath(const char* name) {
  std::string folder =
      (std::filesystem::temp_directory_path() / "fuzz-control-XXXXXX").string();
  Require(::mkdtemp(folder.data()) != nullptr, "a temporary folder");
  static std::vector<std::string> folders;
  static const bool registered = [] {
    return std::atexit([] {
             for (const auto& f : folders) std::filesystem::remove_all(f);
           }) == 0;
  }();
  if (registered) folders.push_back(folder);
  return folder + "/" + name;
}

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  Require(path.size() < sizeof address.sun_path, "a short path");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// As the driver's: looks into the request, copies parts of it, talks of it.
Task<nlohmann::json> Handle(nlohmann::json request,
                            ControlConnection& /*connection*/) {
  const std::string command = request["command"];
  if (command == "wait" && request.value("for", nlohmann::json()) == "x") {
    co_return nlohmann::json::object();
  }
  const nlohmann::json action = request.value("action", nlohmann::json());
  if (action == "pause") co_return nlohmann::json{{"extents", action}};
  co_return ControlError("unknown command '" + command + "'");
}

Task<Status> Drain(IoLoop& loop, int fd, std::string& out) {
  std::vector<std::byte> buffer(16 << 10);
  for (;;) {
    const int n = co_await loop.Recv(fd, buffer);
    if (n <= 0) co_return OkStatus();
    out.append(reinterpret_cast<const char*>(buffer.data()),
               static_cast<size_t>(n));
  }
}

Task<Status> Stop(ControlServer& server) {
  co_await server.Stop();
  co_return OkStatus();
}

struct Driver {
  Driver() {
    auto listener = ControlServer::Listen(path);
    Require(listener.has_value(), "the server listens");
    server = ControlServer::Serve(*loop, std::move(*listener), &Handle);
  }
  ~Driver() { (void)loop->RunUntilDone(Stop(*server)); }
  std::unique_ptr<IoLoop> loop = std::move(*IoLoop::Create(64));
  std::string path = MakeSocketPath("requests");
  std::unique_ptr<ControlServer> server;
};

bool SendAll(int fd, std::string_view text) {
  return text.empty() || ::send(fd, text.data(), text.size(), MSG_NOSIGNAL) ==
                             static_cast<ssize_t>(text.size());
}

}  // namespace

// What a worker left with the keeper is read by the next one.
FUZZ_TARGET(kept_backfill) {
  Backfill::Options options;
  options.bytes_per_second = 7;
  const auto told = WithKeptBackfill(options, AsText(input));
  const std::string again =
      R"({"paused": )" + std::string(told.start_paused ? "true" : "false") +
      R"(, "limit": )" + std::to_string(told.bytes_per_second) + "}";
  const auto same = WithKeptBackfill({}, again);
  Require(same.start_paused == told.start_paused &&
              same.bytes_per_second == told.bytes_per_second,
          "what was understood can be left to the next one");
}

FUZZ_TARGET(control_request) {
  static Driver driver;
  const auto& [loop, path, server] = driver;
  const std::string_view text = AsText(input);
  if (text.size() > kTalkBytesMax) return;
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = AddressOf(path);
  Require(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address),
                    sizeof address) == 0,
          "the server takes clients");
  Require(SendAll(client.get(), text), "the socket takes the input");
  ::shutdown(client.get(), SHUT_WR);
  std::string replies;
  (void)loop->RunUntilDone(Drain(*loop, client.get(), replies));
  const auto lines = std::ranges::count(text, '\n');
  Require(std::ranges::count(replies, '\n') <= lines,
          "a line has one answer at most");
}

FUZZ_TARGET(control_reply) {
  static const std::string path = MakeSocketPath("replies");
  static const UniqueFd listener(
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  static const bool ready = [] {
    const sockaddr_un address = AddressOf(path);
    return ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address),
                  sizeof address) == 0 &&
           ::listen(listener.get(), 4) == 0;
  }();
  Require(ready, "a socket listens");
  const std::string_view text = AsText(input);
  if (text.size() > kTalkBytesMax) return;
  auto client = ControlClient::Connect(path);
  Require(client.has_value(), "a client connects");
  const UniqueFd peer(
      ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  Require(SendAll(peer.get(), text), "the socket takes the input");
  ::shutdown(peer.get(), SHUT_WR);
  for (int i = 0; i < 4; ++i) {
    const auto reply = client->Ask({{"command", "status"}});
    if (!reply && reply.error().code != ErrorCode::kRefused) return;
    if (reply) Require(reply->is_object(), "a reply is an object");
  }
}

}  // namespace bootstream
