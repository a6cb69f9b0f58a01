#include "blockmap/base/read_only_device.h"

#include <algorithm>

namespace bootstream {

void ReadOnlyDevice::Submit(IoRequest& request) {
  switch (request.op) {
    case IoRequest::Op::kRead:
      Spawn(Serve(request));
      return;
    case IoRequest::Op::kWrite:
      request.complete(request,
                       Error{ErrorCode::kRefused, "the disk is read-only"});
      return;
    case IoRequest::Op::kFlush:
      request.complete(request, OkStatus());
      return;
  }
}

Task<void> ReadOnlyDevice::Serve(IoRequest& request) {
  uint64_t done = 0;
  Status status;
  while (status && done < request.size) {
    const uint64_t at = request.offset + done;
    const uint64_t inside = at % grid_.chunk_bytes;
    const uint64_t size =
        std::min<uint64_t>(request.size - done, grid_.chunk_bytes - inside);
    const std::span<std::byte> out(request.data + done, size);
    status = co_await ReadInside(at / grid_.chunk_bytes, inside, out);
    done += size;
  }
  request.complete(request, std::move(status));
}

}  // namespace bootstream
