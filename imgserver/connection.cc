#include "imgserver/connection.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>

#include "imgserver/request_path.h"

namespace bootstream {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using Descriptor = asio::posix::stream_descriptor;

// After so many bytes without having waited, other connections get a turn.
constexpr uint64_t kTurnBytes = 1 << 20;
// What a request costs besides its bytes, in bytes.
constexpr uint64_t kRequestTurnBytes = 16 << 10;

constexpr auto kAwaitable = asio::as_tuple(asio::use_awaitable);

std::string_view EndName(int end) {
  constexpr std::array<std::string_view, 5> kNames = {"done", "gone", "slow",
                                                      "cut", "stop"};
  return kNames[static_cast<size_t>(end)];
}

int64_t WallClockMs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

}  // namespace

Connection::Connection(asio::io_context& io, AcceptedSocket socket,
                       const ServerContext& context)
    : context_(context),
      client_(std::move(socket.client)),
      ticket_(std::move(socket.ticket)),
      socket_(io),
      buffer_(std::make_unique<char[]>(context.config.header_bytes_max)) {
  boost::system::error_code error;
  const int fd = socket.fd.release();
  socket_.assign(fd, error);
  if (error) {
    socket.fd.reset(fd);
    Abort(End::kGone);
  }
  Enter(Phase::kHeader);
}

asio::awaitable<void> Connection::Run() {
  while (end_ == End::kNone && keep_alive_) {
    const bool has_request = co_await ReadHeader();
    if (!has_request) break;
    co_await Answer();
  }
  if (end_ == End::kNone && must_linger_) co_await Linger();
}

void Connection::Enter(Phase phase) {
  const ServerConfig& config = context_.config;
  uint32_t ms = 0;
  switch (phase) {
    case Phase::kHeader:
      ms = config.header_timeout_ms;
      break;
    case Phase::kSend:
      ms = config.send_timeout_ms;
      break;
    case Phase::kIdle:
      ms = config.idle_timeout_ms;
      break;
    case Phase::kLinger:
      ms = config.linger_timeout_ms;
      break;
  }
  phase_ = phase;
  deadline_ = Clock::now() + std::chrono::milliseconds(ms);
}

void Connection::Abort(End end) {
  if (end_ == End::kNone) end_ = end;
  boost::system::error_code ignored;
  socket_.cancel(ignored);
}

void Connection::CheckDeadline(Clock::time_point now) {
  if (now < deadline_ || end_ != End::kNone) return;
  switch (phase_) {
    case Phase::kHeader: {
      header_expired_ = true;
      boost::system::error_code ignored;
      socket_.cancel(ignored);
      break;
    }
    case Phase::kSend: {
      const uint64_t acknowledged = AcknowledgedBytes();
      if (acknowledged - acknowledged_bytes_ >=
          context_.config.send_bytes_min) {
        acknowledged_bytes_ = acknowledged;
        Enter(Phase::kSend);
      } else {
        Abort(End::kSlow);
      }
      break;
    }
    case Phase::kIdle:
    case Phase::kLinger:
      Abort(End::kGone);
      break;
  }
}

void Connection::BeginStop() {
  stopping_ = true;
  if (phase_ != Phase::kSend) Abort(End::kStop);
}

void Connection::ForceStop() {
  stopping_ = true;
  Abort(End::kStop);
}

asio::awaitable<void> Connection::Wait(Descriptor::wait_type what) {
  co_await socket_.async_wait(what, kAwaitable);
  turn_bytes_ = 0;
}

asio::awaitable<void> Connection::LetOthersRun() {
  co_await asio::post(kAwaitable);
  turn_bytes_ = 0;
}

std::string_view Connection::unread() const {
  return {buffer_.get() + read_at_, read_end_ - read_at_};
}

// A robust server ignores empty lines before a request (RFC 9112, section 2.2).
void Connection::SkipEmptyLines() {
  while (unread().starts_with("\r\n")) read_at_ += 2;
}

// What can be said before the whole header is there.
std::optional<Refusal> Connection::EarlyRefusal() const {
  const char first = unread().front();
  if (first != '\r' && (first < 'A' || first > 'Z')) {
    return Refusal{400, "This is not an HTTP request."};
  }
  if (unread().size() < context_.config.header_bytes_max) return std::nullopt;
  if (unread().find("\r\n") == std::string_view::npos) {
    return Refusal{414, "The request's target is too long."};
  }
  return Refusal{431, "The request's header is too long."};
}

asio::awaitable<bool> Connection::ReadHeader() {
  read_at_ += header_size_;
  header_size_ = 0;
  checked_ = 0;
  if (request_count_ > 0) Enter(Phase::kIdle);
  while (!stopping_) {
    SkipEmptyLines();
    if (const auto size = FindHeaderEnd(unread(), checked_)) {
      header_size_ = *size;
      co_return true;
    }
    if (!unread().empty()) {
      refusal_ = EarlyRefusal();
      if (refusal_) co_return true;
      if (phase_ == Phase::kIdle) Enter(Phase::kHeader);
    }
    co_await Wait(Descriptor::wait_read);
    if (end_ != End::kNone) co_return false;
    if (header_expired_) {
      if (unread().empty()) co_return false;
      refusal_ = Refusal{408, "The request's header did not arrive in time."};
      co_return true;
    }
    if (!Receive()) co_return false;
  }
  must_linger_ = true;
  co_return false;
}

bool Connection::Receive() {
  if (read_at_ > 0) {
    std::copy(buffer_.get() + read_at_, buffer_.get() + read_end_,
              buffer_.get());
    read_end_ -= read_at_;
    read_at_ = 0;
  }
  const ssize_t n = ::recv(socket_.native_handle(), buffer_.get() + read_end_,
                           context_.config.header_bytes_max - read_end_, 0);
  if (n > 0) {
    read_end_ += static_cast<size_t>(n);
    return true;
  }
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  end_ = End::kGone;
  return false;
}

asio::awaitable<void> Connection::Answer() {
  const auto start = Clock::now();
  std::optional<Request> request;
  UniqueFd file;
  const Response response = Prepare(request, file);
  keep_alive_ = response.keep_alive;
  must_linger_ |= !keep_alive_;
  answer_bytes_ = 0;
  ++request_count_;
  turn_bytes_ += kRequestTurnBytes;

  Enter(Phase::kSend);
  const bool has_body = response.body_size > 0;
  co_await SendHead(response.head);
  if (has_body && end_ == End::kNone) {
    co_await SendFile(file.get(), response.body_offset, response.body_size);
  }
  Log(request, response,
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() -
                                                            start)
          .count());
  // Short answers to a client that pipelines without end take turns, too.
  if (turn_bytes_ >= kTurnBytes && end_ == End::kNone) co_await LetOthersRun();
}

// Decides on the answer; opens the file if it is one.
Response Connection::Prepare(std::optional<Request>& request, UniqueFd& file) {
  const ServerConfig& config = context_.config;
  ResponseContext context{WallClockMs() / 1000, false};
  const auto refuse = [&](const Refusal& refusal) {
    return AnswerWithRefusal(request ? &*request : nullptr, refusal, context);
  };
  if (refusal_) return refuse(*refusal_);
  const auto parsed = ParseRequest(unread().substr(0, header_size_));
  if (!parsed) return refuse(parsed.error());
  request = *parsed;
  if (request->target.size() > config.target_bytes_max) {
    return refuse({414, "The request's target is too long."});
  }
  context.keep_alive = request->keep_alive && !request->has_body &&
                       !stopping_ &&
                       request_count_ + 1 < config.requests_per_connection_max;
  if (request->method != "GET" && request->method != "HEAD") {
    return refuse({405, "Only GET and HEAD are served."});
  }
  if (request->has_body) {
    return refuse({413, "Requests with a body are not taken."});
  }
  const auto path = DecodeRequestPath(request->target);
  if (!path) return refuse(path.error());
  auto stored = context_.store.OpenFile(*path);
  if (!stored) return refuse(stored.error());
  file = std::move(stored->fd);
  return AnswerWithFile(*request, stored->facts, context);
}

// Not joined to the body with MSG_MORE: waking the reader early costs one small
// packet, and saves the server a third of its CPU time for 128 KiB ranges.
asio::awaitable<void> Connection::SendHead(std::string_view head) {
  while (!head.empty() && end_ == End::kNone) {
    const ssize_t n =
        ::send(socket_.native_handle(), head.data(), head.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      const auto sent = static_cast<size_t>(n);
      head.remove_prefix(sent);
      answer_bytes_ += sent;
      sent_bytes_ += sent;
      turn_bytes_ += sent;
    } else if (MayRetry(errno)) {
      co_await Wait(Descriptor::wait_write);
    }
  }
}

asio::awaitable<void> Connection::SendFile(int file, uint64_t offset,
                                           uint64_t size) {
  auto position = static_cast<off_t>(offset);
  while (size > 0 && end_ == End::kNone) {
    const ssize_t n = ::sendfile(socket_.native_handle(), file, &position,
                                 std::min(size, kTurnBytes));
    if (n > 0) {
      const auto sent = static_cast<uint64_t>(n);
      size -= sent;
      answer_bytes_ += sent;
      sent_bytes_ += sent;
      turn_bytes_ += sent;
      if (size > 0 && turn_bytes_ >= kTurnBytes) co_await LetOthersRun();
    } else if (n == 0) {
      end_ = End::kCut;
    } else if (MayRetry(errno)) {
      co_await Wait(Descriptor::wait_write);
    }
  }
}

bool Connection::MayRetry(int error_number) {
  if (error_number == EAGAIN || error_number == EINTR) return true;
  end_ = error_number == EIO ? End::kCut : End::kGone;
  return false;
}

// Bytes that have left the kernel's send queue.
uint64_t Connection::AcknowledgedBytes() const {
  int queued = 0;
  const int fd = const_cast<Descriptor&>(socket_).native_handle();
  if (::ioctl(fd, SIOCOUTQ, &queued) != 0 || queued < 0) return sent_bytes_;
  return sent_bytes_ - std::min(sent_bytes_, static_cast<uint64_t>(queued));
}

void Connection::Log(const std::optional<Request>& request,
                     const Response& response, int64_t duration_us) {
  AccessRecord record;
  record.time_ms = WallClockMs();
  record.client = client_;
  if (request) {
    record.method = request->method;
    record.target = request->target;
  }
  record.range_first = response.part.first;
  record.range_size = response.part.size;
  record.status = response.status;
  record.bytes = answer_bytes_;
  record.duration_us = duration_us;
  record.end = EndName(static_cast<int>(end_));
  context_.log.Add(record);
}

// Closing while input is unread makes the kernel send a reset, which can
// destroy the last answer on its way.  So: say that no more comes, and read to
// the end.
asio::awaitable<void> Connection::Linger() {
  Enter(Phase::kLinger);
  ::shutdown(socket_.native_handle(), SHUT_WR);
  while (end_ == End::kNone) {
    const ssize_t n = ::recv(socket_.native_handle(), buffer_.get(),
                             context_.config.header_bytes_max, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) co_return;
    if (n < 0) co_await Wait(Descriptor::wait_read);
  }
}

}  // namespace bootstream
