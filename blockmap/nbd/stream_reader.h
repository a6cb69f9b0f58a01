#ifndef BLOCKMAP_NBD_STREAM_READER_H_
#define BLOCKMAP_NBD_STREAM_READER_H_

#include <cstddef>
#include <span>
#include <vector>

#include "blockmap/base/io_loop.h"

namespace bootstream {

// The receiving half of a stream socket, buffered so that many small requests
// cost one system call, while large payloads go straight to where they belong.
// One coroutine at a time.  Errors: kUnavailable when the peer closed between
// two messages, else kIo.
class StreamReader {
 public:
  // `loop` and `fd` must outlive the reader.
  StreamReader(IoLoop& loop, int fd) : loop_(loop), fd_(fd), buffer_(kBytes) {}

  // Bytes that can be had without waiting.
  size_t available() const { return end_ - begin_; }
  // Wait until `size` bytes are available.  REQUIRES: size <= kBytes.
  Task<Status> Fill(size_t size);
  // The next `size` bytes; valid until the next call.
  // REQUIRES: size <= available().
  std::span<const std::byte> Consume(size_t size);
  // All of `out`.
  Task<Status> ReadInto(std::span<std::byte> out);
  // Throw `size` bytes away.
  Task<Status> Skip(size_t size);

  static constexpr size_t kBytes = 64 << 10;

 private:
  // One more receive into the buffer.
  Task<Status> Receive();

  IoLoop& loop_;
  int fd_;  // not owned
  std::vector<std::byte> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace bootstream

#endif  // BLOCKMAP_NBD_STREAM_READER_H_
