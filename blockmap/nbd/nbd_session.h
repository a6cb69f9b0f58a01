#ifndef BLOCKMAP_NBD_NBD_SESSION_H_
#define BLOCKMAP_NBD_NBD_SESSION_H_

#include <functional>
#include <string>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/block_service.h"
#include "blockmap/base/io_loop.h"
#include "blockmap/base/unique_fd.h"
#include "blockmap/nbd/nbd_reply_writer.h"
#include "blockmap/nbd/stream_reader.h"

namespace bootstream {

struct NbdOptions {
  std::string export_name;
  bool read_only = false;
  // Of the requests under way; a larger one has to be the only one.
  size_t payload_bytes_max = size_t{64} << 20;
  // Told of each READ when it arrives: bytes, bytes, IoLoop::Now().
  std::function<void(uint64_t offset, uint32_t size, Executor::Duration when)>
      on_read;
  // A line for the log; what went wrong with a client.
  std::function<void(const std::string& line)> log;
};

// One client, served until it leaves.  Many requests are under way at once, up
// to a bound on their number and bytes; replies go out as they complete.  A
// request is under way until its reply has been sent, so a client that does not
// read cannot make us grow.  Runs on the loop's thread.
class NbdSession {
 public:
  enum class Start {
    kHandshake,     // a client of the socket
    kTransmission,  // size and flags are agreed elsewhere: kernel NBD
  };
  static constexpr size_t kRequestsMax = 128;

  // `loop`, `service` and `options` must outlive the session.
  NbdSession(IoLoop& loop, BlockService& service, const NbdOptions& options,
             UniqueFd socket);
  NbdSession(const NbdSession&) = delete;
  NbdSession& operator=(const NbdSession&) = delete;

  // Serve; returns when the client has gone and every request in hand is
  // answered.  OK after a DISCONNECT or a close between two requests; kInvalid
  // when the client broke the protocol.  Call once; the session may be
  // destroyed after, not before.
  Task<Status> Run(Start start);
  // Take no more requests: those in hand are answered, then Run returns.
  void Stop();

 private:
  Task<Status> Serve(Start start);
  Task<Status> ReceiveRequests();
  // One request whose header has been read, up to where its work begins.
  Task<Status> Accept(NbdRequest request);
  // The reader is about to wait: send what its batch of requests has brought.
  void EndBatch();
  Task<void> Carry(NbdRequest request, AlignedBuffer payload);
  // What is given must stay until it is done.
  Task<Status> Perform(const NbdRequest& request, AlignedBuffer& payload);
  Task<Status> Trim(NbdRequest request);
  static Task<Status> Unknown();
  void Reply(const NbdRequest& request, NbdError error, AlignedBuffer payload,
             size_t charged_bytes);
  void Gone(size_t count, size_t charged_bytes);
  bool HasRoom(size_t bytes) const;
  bool idle() const { return requests_ == 0 && writer_.idle(); }

  // Suspends the one coroutine that waits until Gone is called.
  struct Change {
    NbdSession& session;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
      session.waiter_ = handle;
    }
    void await_resume() {}
  };

  IoLoop& loop_;
  BlockService& service_;
  const NbdOptions& options_;
  UniqueFd socket_;
  StreamReader reader_;
  NbdReplyWriter writer_;
  std::coroutine_handle<> waiter_;
  size_t requests_ = 0;
  size_t bytes_ = 0;
  bool stopping_ = false;
  // The reader is running: replies gather until EndBatch.
  bool in_batch_ = false;
};

}  // namespace bootstream

#endif  // BLOCKMAP_NBD_NBD_SESSION_H_
