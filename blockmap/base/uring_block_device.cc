#include "blockmap/base/uring_block_device.h"

#include <algorithm>
#include <cerrno>

#include "blockmap/base/posix_block_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kTransferBytesMax = 1U << 30;

Status Outcome(const IoRequest& request, int result) {
  if (result >= 0) return Error{ErrorCode::kIo, "short transfer"};
  const char* what = request.op == IoRequest::Op::kFlush  ? "fdatasync"
                     : request.op == IoRequest::Op::kRead ? "read"
                                                          : "write";
  return ErrnoError(-result,
                    what + (" at byte " + std::to_string(request.offset)));
}

}  // namespace

Result<std::unique_ptr<UringBlockDevice>> UringBlockDevice::Adopt(IoLoop& loop,
                                                                  UniqueFd fd) {
  const auto size = DiskSizeBytes(fd.get());
  if (!size) return size.error();
  return std::unique_ptr<UringBlockDevice>(
      new UringBlockDevice(loop, std::move(fd), *size));
}

void UringBlockDevice::Submit(IoRequest& request) {
  if (idle_.empty()) {
    flights_.push_back(std::make_unique<Flight>());
    idle_.push_back(flights_.back().get());
  }
  Flight& flight = *idle_.back();
  idle_.pop_back();
  flight.device = this;
  flight.request = &request;
  flight.done = 0;
  flight.by_hole = request.zeroes && holes_;
  flight.complete = [](IoLoop::Operation& operation, int result) {
    auto& self = static_cast<Flight&>(operation);
    self.device->Finish(self, result);
  };
  Start(flight);
}

void UringBlockDevice::Start(Flight& flight) {
  const IoRequest& request = *flight.request;
  const auto size = static_cast<unsigned>(
      std::min(request.size - flight.done, kTransferBytesMax));
  std::byte* data = request.data + flight.done;
  const uint64_t offset = request.offset + flight.done;
  loop_.Submit(flight, [&](io_uring_sqe* sqe) {
    switch (request.op) {
      case IoRequest::Op::kRead:
        io_uring_prep_read(sqe, fd_.get(), data, size, offset);
        break;
      case IoRequest::Op::kWrite:
        if (flight.by_hole) {
          io_uring_prep_fallocate(sqe, fd_.get(), kMakeZero,
                                  static_cast<off_t>(offset), size);
          break;
        }
        io_uring_prep_write(sqe, fd_.get(), data, size, offset);
        break;
      case IoRequest::Op::kFlush:
        io_uring_prep_fsync(sqe, fd_.get(), IORING_FSYNC_DATASYNC);
        break;
    }
  });
}

void UringBlockDevice::Finish(Flight& flight, int result) {
  IoRequest& request = *flight.request;
  const bool flush = request.op == IoRequest::Op::kFlush;
  if (result == -EINTR || result == -EAGAIN) return Start(flight);
  if (flight.by_hole) {
    // What cannot be done so is written.
    if (result < 0) flight.by_hole = holes_ = false;
    if (result == 0) {
      flight.done += std::min(request.size - flight.done, kTransferBytesMax);
    }
    if (flight.done < request.size) return Start(flight);
  }
  if (result > 0 && !flush) {
    flight.done += static_cast<uint64_t>(result);
    if (flight.done < request.size) return Start(flight);
  }
  const bool ok = flush ? result == 0 : flight.done == request.size;
  idle_.push_back(&flight);
  request.complete(request, ok ? OkStatus() : Outcome(request, result));
}

}  // namespace bootstream
