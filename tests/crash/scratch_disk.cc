#include "tests/crash/scratch_disk.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace bootstream {

ScratchDisk::ScratchDisk(std::vector<std::byte> bytes,
                         std::span<const std::byte> origin)
    : ScratchDisk(std::move(bytes)) {
  for (uint64_t at = 0; at < now_.size(); at += kPage) {
    const auto size = std::min<uint64_t>(kPage, now_.size() - at);
    is_written_[at / kPage] =
        std::memcmp(now_.data() + at, origin.data() + at, size) != 0;
  }
}

bool ScratchDisk::WasWritten(uint64_t offset, uint64_t size) const {
  const auto first = is_written_.begin() + static_cast<long>(offset / kPage);
  const auto end =
      is_written_.begin() + static_cast<long>((offset + size - 1) / kPage + 1);
  return std::find(first, end, true) != end;
}

void ScratchDisk::Submit(IoRequest& request) {
  Status status;
  if (request.offset > now_.size() ||
      request.size > now_.size() - request.offset) {
    status = Error{ErrorCode::kIo, "scratch disk: beyond the end: byte " +
                                       std::to_string(request.offset)};
  } else if (request.op == IoRequest::Op::kRead) {
    std::memcpy(request.data, now_.data() + request.offset, request.size);
  } else if (request.op == IoRequest::Op::kWrite) {
    Put(request.offset, {request.data, request.size});
  }
  request.complete(request, std::move(status));
}

void ScratchDisk::Put(uint64_t offset, std::span<const std::byte> data) {
  if (data.empty()) return;
  const uint64_t last = (offset + data.size() - 1) / kPage;
  for (uint64_t page = offset / kPage; page <= last; ++page) {
    if (is_changed_[page]) continue;
    is_changed_[page] = true;
    is_written_[page] = true;
    changed_.push_back(page);
  }
  std::memcpy(now_.data() + offset, data.data(), data.size());
}

void ScratchDisk::CopyChanged(const std::vector<std::byte>& from,
                              std::vector<std::byte>& to) {
  for (const uint64_t page : changed_) {
    const uint64_t at = page * kPage;
    std::memcpy(to.data() + at, from.data() + at,
                std::min<uint64_t>(kPage, from.size() - at));
    is_changed_[page] = false;
  }
  changed_.clear();
}

void ScratchDisk::Reset() { CopyChanged(base_, now_); }
void ScratchDisk::Keep() { CopyChanged(now_, base_); }

}  // namespace bootstream
