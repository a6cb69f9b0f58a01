#include "blockmap/nbd/stream_reader.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace bootstream {

Task<Status> StreamReader::Receive() {
  while (true) {
    const int n = co_await loop_.Recv(fd_, std::span(buffer_).subspan(end_));
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return ErrnoError(-n, "recv");
    if (n == 0 && available() == 0) {
      co_return Error{ErrorCode::kUnavailable, "the peer closed"};
    }
    if (n == 0) co_return Error{ErrorCode::kIo, "the peer closed half way"};
    end_ += static_cast<size_t>(n);
    co_return OkStatus();
  }
}

Task<Status> StreamReader::Fill(size_t size) {
  assert(size <= kBytes);
  if (size > kBytes - begin_ || begin_ == end_) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, available());
    end_ -= begin_;
    begin_ = 0;
  }
  while (available() < size) {
    if (auto s = co_await Receive(); !s) co_return s;
  }
  co_return OkStatus();
}

std::span<const std::byte> StreamReader::Consume(size_t size) {
  assert(size <= available());
  const auto out = std::span<const std::byte>(buffer_).subspan(begin_, size);
  begin_ += size;
  return out;
}

Task<Status> StreamReader::ReadInto(std::span<std::byte> out) {
  const auto buffered = Consume(std::min(out.size(), available()));
  std::memcpy(out.data(), buffered.data(), buffered.size());
  out = out.subspan(buffered.size());
  if (out.empty()) co_return OkStatus();
  Status status = co_await loop_.RecvAll(fd_, out);
  // In the middle of a message even a clean close is an error.
  if (!status) status.error().code = ErrorCode::kIo;
  co_return status;
}

Task<Status> StreamReader::Skip(size_t size) {
  while (size > 0) {
    if (available() == 0) {
      if (auto s = co_await Fill(1); !s) {
        co_return Error{ErrorCode::kIo, s.error().message};
      }
    }
    const size_t part = std::min(size, available());
    Consume(part);
    size -= part;
  }
  co_return OkStatus();
}

}  // namespace bootstream
