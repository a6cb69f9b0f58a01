#ifndef TESTS_IMGSERVER_SERVER_FIXTURE_H_
#define TESTS_IMGSERVER_SERVER_FIXTURE_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "blockmap/base/unique_fd.h"
#include "imgserver/server.h"

namespace bootstream {

// An answer as it came over the wire.
struct Reply {
  int status = 0;
  std::map<std::string, std::string> fields;  // names as they were sent
  std::string body;

  std::string field(const std::string& name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? "" : found->second;
  }
};

// A client that says exactly what it is told, over one connection.  A call that
// waits for the server gives up, and fails the test, after a minute.
class RawClient {
 public:
  explicit RawClient(uint16_t port);

  void Send(const std::string& text);
  // One answer; without a body for HEAD.  Nothing if the connection ended.
  std::optional<Reply> Receive(bool is_head = false);
  // A GET with Host and `fields` ("Range: bytes=0-1\r\n"), answered.
  std::optional<Reply> Get(const std::string& path,
                           const std::string& fields = "");
  // Up to `size` bytes, fewer at the end of the connection.
  std::string ReceiveBytes(size_t size);
  // Whether the connection ended, with nothing more having come.
  bool IsAtEnd() { return ReceiveBytes(1).empty(); }
  // No more is sent.
  void FinishSending();
  // Leave without a word: the server gets a reset.
  void Reset();

 private:
  // Waits for more.  False at the end.
  bool Fill();

  UniqueFd fd_;
  std::string unread_;
};

// Waits for `condition`; false if it does not hold within a minute.
bool Eventually(const std::function<bool()>& condition);

// A repository with a few files, in a folder of its own, and a server for it.
class ServerTest : public testing::Test {
 protected:
  static constexpr size_t kBigBytes = size_t{64} << 20;

  ServerTest();
  ~ServerTest() override;

  void StartServer(const ServerConfig& config = {});
  RawClient Connect() { return RawClient(server_->port()); }
  void WriteFile(const std::string& path, const std::string& text);
  // A file of kBigBytes zeroes: more than the kernel buffers.
  void WriteBigFile(const std::string& path);
  std::string log() const;
  // Waits until a line of the access log ends with `words`.
  bool LogSays(const std::string& words);

  const std::string pack_name_ = "ab" + std::string(62, '1');
  const std::string pack_path_ = "/packs/ab/" + pack_name_;
  std::filesystem::path root_;  // holds repo/, secret and log
  std::string pack_;            // what the pack holds
  std::unique_ptr<ImageStore> store_;
  std::unique_ptr<AccessLog> log_;
  std::unique_ptr<Server> server_;
};

}  // namespace bootstream

#endif  // TESTS_IMGSERVER_SERVER_FIXTURE_H_
