#ifndef IMGSERVER_WORKER_H_
#define IMGSERVER_WORKER_H_

#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_set>

#include "imgserver/connection.h"

namespace bootstream {

// One thread and the connections that it serves.  Public calls may come from
// any thread; everything else happens on the worker's own.
class Worker {
 public:
  explicit Worker(const ServerContext& context);
  // Cuts what is still open.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Serve a connection from now on.
  void Adopt(AcceptedSocket socket);
  // Take no more requests; the thread ends when the answers in hand are sent,
  // or cut after stop_timeout_ms.
  void BeginStop();
  // Wait for that.
  void Join();

 private:
  void RunThread();
  void Serve(AcceptedSocket socket);
  boost::asio::awaitable<void> RunConnection(
      std::unique_ptr<Connection> connection);
  void StartSweep();
  void Sweep();

  const ServerContext context_;
  const std::chrono::milliseconds sweep_interval_;
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type>
      keep_running_;
  boost::asio::steady_timer sweep_timer_;
  bool is_sweeping_ = false;
  std::optional<std::chrono::steady_clock::time_point> stop_deadline_;
  std::unordered_set<Connection*> connections_;  // owned by their coroutines
  std::thread thread_;
};

}  // namespace bootstream

#endif  // IMGSERVER_WORKER_H_
