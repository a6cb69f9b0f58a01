#include "tests/support/memory_device.h"

#include <cassert>
#include <cstring>

namespace bootstream {

void MemoryDevice::Submit(IoRequest& request) {
  assert(request.offset % kSectorBytes == 0);
  assert(request.size % kSectorBytes == 0);
  assert(request.offset + request.size <= bytes_.size());
  switch (request.op) {
    case IoRequest::Op::kRead:
      ++read_count_;
      std::memcpy(request.data, bytes_.data() + request.offset, request.size);
      break;
    case IoRequest::Op::kWrite:
      ++write_count_;
      std::memcpy(bytes_.data() + request.offset, request.data, request.size);
      break;
    case IoRequest::Op::kFlush:
      ++flush_count_;
      break;
  }
  request.complete(request, OkStatus());
}

}  // namespace bootstream
