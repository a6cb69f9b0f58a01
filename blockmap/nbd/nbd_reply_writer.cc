#include "blockmap/nbd/nbd_reply_writer.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>

namespace bootstream {

void NbdReplyWriter::Flush() {
  if (sending_ || queue_.empty()) return;
  sending_ = true;
  Spawn(SendQueued());
}

Task<void> NbdReplyWriter::SendQueued() {
  while (!queue_.empty()) {
    const size_t count = Gather();
    if (!failed_) {
      if (const Status sent = co_await SendGathered(); !sent) {
        failed_ = true;
        ::shutdown(fd_, SHUT_RDWR);
      }
    }
    DropFront(count);
  }
  sending_ = false;
  gone_(0, 0);
}

size_t NbdReplyWriter::Gather() {
  size_t count = 0;
  size_t bytes = 0;
  iov_count_ = 0;
  for (NbdReply& reply : queue_) {
    if (count == kBatch || bytes >= kBatchBytes) break;
    iov_[iov_count_++] = {reply.header.data(), reply.header.size()};
    if (const auto payload = reply.payload.span(); !payload.empty()) {
      iov_[iov_count_++] = {payload.data(), payload.size()};
      bytes += payload.size();
    }
    ++count;
  }
  return count;
}

Task<Status> NbdReplyWriter::SendGathered() {
  msghdr message{};
  message.msg_iov = iov_.data();
  message.msg_iovlen = iov_count_;
  while (message.msg_iovlen > 0) {
    const int n = co_await loop_.SendMsg(fd_, &message, MSG_WAITALL);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return ErrnoError(-n, "send");
    auto left = static_cast<size_t>(n);
    while (message.msg_iovlen > 0 && left >= message.msg_iov->iov_len) {
      left -= message.msg_iov->iov_len;
      ++message.msg_iov;
      --message.msg_iovlen;
    }
    if (message.msg_iovlen > 0) {
      auto* base = static_cast<std::byte*>(message.msg_iov->iov_base);
      message.msg_iov->iov_base = base + left;
      message.msg_iov->iov_len -= left;
    }
  }
  co_return OkStatus();
}

void NbdReplyWriter::DropFront(size_t count) {
  size_t charged_bytes = 0;
  for (size_t i = 0; i < count; ++i) {
    charged_bytes += queue_.front().charged_bytes;
    queue_.pop_front();
  }
  gone_(count, charged_bytes);
}

}  // namespace bootstream
