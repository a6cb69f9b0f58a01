#include "imgserver/worker.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <cstdio>
#include <exception>

namespace bootstream {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

// Deadlines are looked at this often: a quarter of the shortest, which is how
// late a time-out may come.
milliseconds SweepInterval(const ServerConfig& config) {
  const uint32_t shortest = std::min(
      {config.header_timeout_ms, config.idle_timeout_ms, config.send_timeout_ms,
       config.linger_timeout_ms, config.stop_timeout_ms});
  return milliseconds(std::clamp<uint32_t>(shortest / 4, 5, 250));
}

}  // namespace

Worker::Worker(const ServerContext& context)
    : context_(context),
      sweep_interval_(SweepInterval(context.config)),
      keep_running_(io_.get_executor()),
      sweep_timer_(io_) {
  thread_ = std::thread([this] { RunThread(); });
}

Worker::~Worker() {
  io_.stop();
  Join();
}

void Worker::RunThread() {
  for (;;) {
    try {
      io_.run();
      return;
    } catch (const std::exception& error) {
      // Out of memory, most likely; what threw is gone, the others go on.
      std::fprintf(stderr, "imgserver: a request failed: %s\n", error.what());
    }
  }
}

void Worker::Adopt(AcceptedSocket socket) {
  asio::post(io_, [this, socket = std::move(socket)]() mutable {
    Serve(std::move(socket));
  });
}

void Worker::Serve(AcceptedSocket socket) {
  if (stop_deadline_) return;
  asio::co_spawn(io_,
                 RunConnection(std::make_unique<Connection>(
                     io_, std::move(socket), context_)),
                 asio::detached);
}

asio::awaitable<void> Worker::RunConnection(
    std::unique_ptr<Connection> connection) {
  connections_.insert(connection.get());
  StartSweep();
  if (stop_deadline_) connection->BeginStop();
  try {
    co_await connection->Run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "imgserver: a connection failed: %s\n", error.what());
  }
  connections_.erase(connection.get());
}

void Worker::BeginStop() {
  asio::post(io_, [this] {
    stop_deadline_ = std::chrono::steady_clock::now() +
                     milliseconds(context_.config.stop_timeout_ms);
    keep_running_.reset();
    for (Connection* connection : connections_) connection->BeginStop();
  });
}

void Worker::Join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::StartSweep() {
  if (is_sweeping_) return;
  is_sweeping_ = true;
  sweep_timer_.expires_after(sweep_interval_);
  sweep_timer_.async_wait([this](const boost::system::error_code&) {
    is_sweeping_ = false;
    Sweep();
  });
}

void Worker::Sweep() {
  const auto now = std::chrono::steady_clock::now();
  const bool must_end = stop_deadline_ && now >= *stop_deadline_;
  for (Connection* connection : connections_) {
    if (must_end) {
      connection->ForceStop();
    } else {
      connection->CheckDeadline(now);
    }
  }
  if (!connections_.empty()) StartSweep();
}

}  // namespace bootstream
