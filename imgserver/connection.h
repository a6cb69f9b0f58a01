#ifndef IMGSERVER_CONNECTION_H_
#define IMGSERVER_CONNECTION_H_

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "blockmap/base/unique_fd.h"
#include "imgserver/access_log.h"
#include "imgserver/admission.h"
#include "imgserver/config.h"
#include "imgserver/image_store.h"
#include "imgserver/request.h"
#include "imgserver/response.h"

namespace bootstream {

// What every connection of a server shares; all of it outlives them.
struct ServerContext {
  const ServerConfig& config;
  const ImageStore& store;
  AccessLog& log;
};

// A connection that was accepted and may stay.
struct AcceptedSocket {
  UniqueFd fd;  // non-blocking
  std::string client;
  Admission::Ticket ticket;
};

// One client's connection: reads headers, answers them in order, keeps to the
// time-outs.  Belongs to one thread, that of its io_context.
//
//   kHeader --whole header--> kSend --kept alive--> kIdle --first byte-->
//   kHeader
//                               \--closing, input may be unread--> kLinger
//
// The owner calls CheckDeadline() now and then; a connection has no timer of
// its own.  Being cancelled only wakes Run(), which then finds out why.
class Connection {
 public:
  Connection(boost::asio::io_context& io, AcceptedSocket socket,
             const ServerContext& context);

  // Serve until the connection is to be closed.
  boost::asio::awaitable<void> Run();

  // Drop the connection if it has waited too long for its phase.
  void CheckDeadline(std::chrono::steady_clock::time_point now);
  // Finish the answer in hand, if there is one, and no more.
  void BeginStop();
  // Stop at once.
  void ForceStop();

 private:
  enum class Phase { kHeader, kSend, kIdle, kLinger };
  enum class End { kNone, kGone, kSlow, kCut, kStop };

  void Enter(Phase phase);
  void Abort(End end);
  boost::asio::awaitable<void> Wait(
      boost::asio::posix::stream_descriptor::wait_type what);
  boost::asio::awaitable<void> LetOthersRun();

  std::string_view unread() const;
  void SkipEmptyLines();
  std::optional<Refusal> EarlyRefusal() const;
  boost::asio::awaitable<bool> ReadHeader();
  // Reads what has arrived.  False at the end of the stream or on an error.
  bool Receive();

  boost::asio::awaitable<void> Answer();
  Response Prepare(std::optional<Request>& request, UniqueFd& file);
  boost::asio::awaitable<void> SendHead(std::string_view head);
  boost::asio::awaitable<void> SendFile(int file, uint64_t offset,
                                        uint64_t size);
  // Whether a failed call is worth waiting for; otherwise says why it ended.
  bool MayRetry(int error_number);
  uint64_t AcknowledgedBytes() const;
  void Log(const std::optional<Request>& request, const Response& response,
           int64_t duration_us);

  boost::asio::awaitable<void> Linger();

  const ServerContext context_;
  const std::string client_;
  const Admission::Ticket ticket_;
  boost::asio::posix::stream_descriptor socket_;

  Phase phase_ = Phase::kHeader;
  std::chrono::steady_clock::time_point deadline_;
  bool header_expired_ = false;
  bool stopping_ = false;
  End end_ = End::kNone;  // anything else: no more bytes go out

  std::unique_ptr<char[]> buffer_;  // header_bytes_max bytes
  size_t read_at_ = 0;              // [read_at_, read_end_) is unread
  size_t read_end_ = 0;
  size_t checked_ = 0;      // of the unread bytes: hold no end of header
  size_t header_size_ = 0;  // the header in hand, at read_at_
  std::optional<Refusal> refusal_;  // in place of a header

  uint32_t request_count_ = 0;
  bool keep_alive_ = true;
  bool must_linger_ = false;
  uint64_t answer_bytes_ = 0;        // of the answer in hand
  uint64_t sent_bytes_ = 0;          // of all, as handed to the kernel
  uint64_t acknowledged_bytes_ = 0;  // when the deadline was last looked at
  uint64_t turn_bytes_ = 0;          // since others could run
};

}  // namespace bootstream

#endif  // IMGSERVER_CONNECTION_H_
