#include "blockmap/disk/source_view.h"

#include <algorithm>

namespace bootstream {

void SourceView::Submit(IoRequest& request) {
  switch (request.op) {
    case IoRequest::Op::kRead:
      Spawn(Serve(request));
      return;
    case IoRequest::Op::kWrite:
      request.complete(request,
                       Error{ErrorCode::kRefused, "the source is read-only"});
      return;
    case IoRequest::Op::kFlush:
      request.complete(request, OkStatus());
      return;
  }
}

Task<void> SourceView::Serve(IoRequest& request) {
  uint64_t done = 0;
  Status status;
  while (status && done < request.size) {
    const uint64_t at = request.offset + done;
    const DiskChunk chunk{at / grid_.chunk_bytes};
    const uint64_t inside = at % grid_.chunk_bytes;
    const uint64_t size =
        std::min<uint64_t>(request.size - done, grid_.chunk_bytes - inside);
    const DiskChunk now = map_.Relocated(chunk).value_or(chunk);
    const std::span<std::byte> part(request.data + done, size);
    status = co_await device_.Read(grid_.offset_of(now.value) + inside, part);
    done += size;
  }
  request.complete(request, std::move(status));
}

}  // namespace bootstream
