#ifndef BLOCKMAP_NBD_NBD_REPLY_WRITER_H_
#define BLOCKMAP_NBD_NBD_REPLY_WRITER_H_

#include <array>
#include <deque>
#include <functional>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/io_loop.h"
#include "blockmap/nbd/nbd_protocol.h"

namespace bootstream {

// One reply on its way, with the payload of a READ.
struct NbdReply {
  std::array<std::byte, kNbdReplyBytes> header;
  AlignedBuffer payload;
  size_t charged_bytes = 0;  // what the request counts for in the limits
};

// The sending half of a connection.  Replies go out whole, in the order added,
// as many as there are with one system call.  After an error the socket is shut
// down and replies are dropped: the reader then sees the end.  One thread.
class NbdReplyWriter {
 public:
  // `gone` is told of replies that were sent or dropped: how many, and their
  // charged bytes.  It may not destroy the writer.
  using Gone = std::function<void(size_t count, size_t charged_bytes)>;
  NbdReplyWriter(IoLoop& loop, int fd, Gone gone)
      : loop_(loop), fd_(fd), gone_(std::move(gone)) {}
  NbdReplyWriter(const NbdReplyWriter&) = delete;
  NbdReplyWriter& operator=(const NbdReplyWriter&) = delete;

  void Add(NbdReply reply) { queue_.push_back(std::move(reply)); }
  // Begin to send what was added.
  void Flush();
  // Nothing is queued and nothing is being sent.
  bool idle() const { return queue_.empty() && !sending_; }

 private:
  static constexpr size_t kBatch = 64;
  static constexpr size_t kBatchBytes = 4 << 20;

  Task<void> SendQueued();
  // The front of the queue as a scatter list; how many replies are in it.
  size_t Gather();
  // Everything in `iov_`, also when the kernel takes it in parts.
  Task<Status> SendGathered();
  void DropFront(size_t count);

  IoLoop& loop_;
  int fd_;  // not owned
  Gone gone_;
  std::deque<NbdReply> queue_;
  std::array<iovec, 2 * kBatch> iov_;
  size_t iov_count_ = 0;
  bool sending_ = false;
  bool failed_ = false;
};

}  // namespace bootstream

#endif  // BLOCKMAP_NBD_NBD_REPLY_WRITER_H_
