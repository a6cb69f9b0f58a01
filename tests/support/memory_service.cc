#include "tests/support/memory_service.h"

#include <algorithm>
#include <cstring>

#include "blockmap/base/types.h"

namespace bootstream {

using Kind = MemoryService::Call::Kind;

Status MemoryService::Begin(Call call) {
  if (logging_) calls_.push_back(call);
  if (!failure_) return failure_;
  if (call.offset > size_bytes() || call.size > size_bytes() - call.offset) {
    return Error{ErrorCode::kInvalid, "a range outside the device"};
  }
  return OkStatus();
}

Task<Status> MemoryService::Read(uint64_t offset, std::span<std::byte> out) {
  if (auto s = Begin({Kind::kRead, offset, out.size(), false}); !s) {
    co_return s;
  }
  if (gate_ != nullptr) co_await *gate_;
  std::memcpy(out.data(), bytes_.data() + offset, out.size());
  co_return OkStatus();
}

Task<Status> MemoryService::Write(uint64_t offset,
                                  std::span<const std::byte> data, bool fua) {
  if (auto s = Begin({Kind::kWrite, offset, data.size(), fua}); !s) {
    co_return s;
  }
  last_write_aligned_ =
      reinterpret_cast<uintptr_t>(data.data()) % kBlockBytes == 0;
  std::memcpy(bytes_.data() + offset, data.data(), data.size());
  co_return OkStatus();
}

Task<Status> MemoryService::Flush() {
  co_return Begin({Kind::kFlush, 0, 0, false});
}

Task<Status> MemoryService::Discard(uint64_t offset, uint64_t size) {
  co_return Begin({Kind::kDiscard, offset, size, false});
}

Task<Status> MemoryService::WriteZeroes(uint64_t offset, uint64_t size,
                                        bool fua) {
  if (auto s = Begin({Kind::kWriteZeroes, offset, size, fua}); !s) co_return s;
  std::memset(bytes_.data() + offset, 0, size);
  co_return OkStatus();
}

}  // namespace bootstream
