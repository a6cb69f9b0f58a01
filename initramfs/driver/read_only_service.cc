#include "initramfs/driver/read_only_service.h"

#include <cstring>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/types.h"

namespace bootstream {
namespace {

bool IsAligned(uint64_t value) { return value % kSectorBytes == 0; }

}  // namespace

Task<Status> ReadOnlyService::Read(uint64_t offset, std::span<std::byte> out) {
  const auto address = reinterpret_cast<uintptr_t>(out.data());
  if (!IsAligned(offset) || !IsAligned(out.size()) || !IsAligned(address)) {
    co_return co_await ReadUnaligned(offset, out);
  }
  co_return co_await device_.Read(offset, out);
}

// By way of whole sectors.
Task<Status> ReadOnlyService::ReadUnaligned(uint64_t offset,
                                            std::span<std::byte> out) {
  const uint64_t begin = offset / kSectorBytes * kSectorBytes;
  const uint64_t end =
      (offset + out.size() + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  auto sectors = AlignedBuffer::Unfilled(end - begin);
  Status status = co_await device_.Read(begin, sectors.span());
  if (status) {
    std::memcpy(out.data(), sectors.span().data() + (offset - begin),
                out.size());
  }
  co_return status;
}

Task<Status> ReadOnlyService::Refuse() {
  co_return Error{ErrorCode::kRefused, "the device is read-only"};
}

Task<Status> ReadOnlyService::Write(uint64_t, std::span<const std::byte>,
                                    bool) {
  return Refuse();
}

Task<Status> ReadOnlyService::Flush() { co_return OkStatus(); }

Task<Status> ReadOnlyService::Discard(uint64_t, uint64_t) { return Refuse(); }

Task<Status> ReadOnlyService::WriteZeroes(uint64_t, uint64_t, bool) {
  return Refuse();
}

}  // namespace bootstream
