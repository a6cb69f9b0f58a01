#ifndef TESTS_SUPPORT_TEST_HTTP_SERVER_H_
#define TESTS_SUPPORT_TEST_HTTP_SERVER_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "blockmap/base/unique_fd.h"

namespace bootstream {

// A small HTTP server on 127.0.0.1 that answers Range requests, rightly or as
// wrongly as a test wants.  A thread for each connection.
class TestHttpServer {
 public:
  struct Request {
    std::string path;  // without the first slash
    uint64_t begin = 0;
    uint64_t end = 0;  // not included; 0: no range was asked for
    bool no_cache = false;
    size_t number = 0;  // from 0, over all connections
  };
  enum class Fault {
    kNone,
    kWrongRange,      // Content-Range of the bytes one further on
    kShiftedBytes,    // says the right range, sends the bytes one further on
    kNoRange,         // 206 that does not say which range
    kWrongLength,     // Content-Length of one byte less than the range
    kWholeFile,       // 200 and everything
    kWrongWhole,      // 200 and everything but the last byte
    kShortBody,       // closes after half of the body
    kLongBody,        // says the right range, sends more, then closes
    kFlippedBit,      // in the middle of the body
    kOtherFile,       // the bytes of another file
    kStall,           // half of the body, then nothing
    kTrickle,         // half of the body, then a byte now and then
    kSilent,          // nothing at all
    kNotFound,        // 404
    kTooMany,         // 429, Retry-After: 1
    kError,           // 500
    kUnavailable,     // 503
    kEncoded,         // Content-Encoding: gzip
    kFolded,          // the first header line goes on with none
    kHangUp,          // closes without an answer
    kReset,           // half of the body, then a reset
    kEndlessHeaders,  // until the other side has enough
    kRedirect,        // to SetRedirect's, or to itself
  };
  static constexpr int kFaultCount = static_cast<int>(Fault::kRedirect) + 1;

  TestHttpServer();
  ~TestHttpServer();

  void Put(const std::string& path, std::vector<std::byte> bytes);
  std::vector<std::byte> Get(const std::string& path) const;
  // Asked for each request; the default answers kNone.
  void SetFault(std::function<Fault(const Request&)> fault);
  void SetFault(Fault fault) {
    SetFault([fault](const Request&) { return fault; });
  }
  // Where kRedirect leads; the path is added.
  void SetRedirect(std::string base);
  // Close everything; connections are refused until Start, on the same port.
  void Stop();
  void Start();

  std::string url() const;
  std::vector<Request> requests() const;
  // Wait until that many requests have come.
  void WaitForRequests(size_t count);

 private:
  void AcceptClients(int listener);
  void Serve(int fd);
  bool Answer(int fd, const Request& request, Fault fault);
  bool AnswerWithout(int fd, const Request& request, Fault fault);
  bool AnswerWith(int fd, const Request& request, Fault fault,
                  const std::vector<std::byte>& file);
  std::vector<std::byte> FileFor(const Request& request, Fault& fault);
  bool ReadRequest(int fd, std::string& pending, Request& request);

  std::map<std::string, std::vector<std::byte>> files_;
  std::function<Fault(const Request&)> fault_;
  std::string redirect_;
  std::vector<Request> requests_;
  std::set<int> connections_;
  mutable std::mutex mutex_;  // all of the above
  std::condition_variable changed_;
  uint16_t port_ = 0;
  UniqueFd listener_;
  std::thread accepting_;
  std::vector<std::thread> serving_;  // under mutex_
};

}  // namespace bootstream

#endif  // TESTS_SUPPORT_TEST_HTTP_SERVER_H_
