#include "tests/support/crash_device.h"

#include <algorithm>
#include <cassert>
#include <span>
#include <utility>

namespace bootstream {
namespace {

Error Injected(const char* what) { return Error{ErrorCode::kIo, what}; }

}  // namespace

void CrashDevice::Submit(IoRequest& request) {
  assert(request.offset % kSectorBytes == 0);
  assert(request.size % kSectorBytes == 0);
  assert(reinterpret_cast<uintptr_t>(request.data) % kSectorBytes == 0);
  assert(request.offset + request.size <= visible_.size());
  const Waiting waiting{&request, completed_writes_};
  if (held_ && has_power_) {
    waiting_.push_back(waiting);
  } else {
    Run(waiting);
  }
}

void CrashDevice::Run(const Waiting& waiting) {
  Status status = Do(waiting);
  waiting.request->complete(*waiting.request, std::move(status));
}

Status CrashDevice::Do(const Waiting& waiting) {
  if (!has_power_) return Injected("no power");
  if (stopped_) return Injected("stopped");
  switch (waiting.request->op) {
    case IoRequest::Op::kRead:
      return DoRead(*waiting.request);
    case IoRequest::Op::kWrite:
      return DoWrite(*waiting.request);
    case IoRequest::Op::kFlush:
      return DoFlush(waiting.covers);
  }
  return OkStatus();
}

Status CrashDevice::DoRead(const IoRequest& request) {
  ++read_count_;
  if (failing_reads_ && request.offset < failing_reads_->end() &&
      failing_reads_->offset < request.offset + request.size) {
    return Injected("unreadable");
  }
  visible_.Read(request.offset, {request.data, request.size});
  return OkStatus();
}

Status CrashDevice::DoWrite(const IoRequest& request) {
  const uint64_t number = write_count_++;
  stopped_ = stop_at_write_ == number;
  if (stopped_) return Injected("stopped");
  if (fail_write_ == number) return Injected("write failed");
  if (cut_at_write_ == number) CutPower();
  const std::span<const std::byte> data(request.data, request.size);
  // A write that the power cut meets may be on the disk as well.
  const bool refused = Refuses(request.offset, request.size);
  if (!refused) {
    unflushed_.push_back({request.offset, {data.begin(), data.end()}});
  }
  if (!has_power_) return Injected("no power");
  if (refused) return Injected("refused");
  ++completed_writes_;
  visible_.Write(request.offset, data);
  return OkStatus();
}

Status CrashDevice::DoFlush(uint64_t covers) {
  const uint64_t number = flush_count_++;
  stopped_ = stop_at_flush_ == number;
  if (stopped_) return Injected("stopped");
  if (fail_flush_ == number) return Injected("flush failed");
  if (cut_at_flush_ == number) CutPower();
  if (!has_power_) return Injected("no power");
  // The oldest first: `unflushed_` holds the latest completed writes.
  uint64_t later = completed_writes_ - covers;
  while (unflushed_.size() > later) {
    const Unflushed& write = unflushed_.front();
    durable_.Write(write.offset, write.data);
    unflushed_.pop_front();
  }
  return OkStatus();
}

void CrashDevice::GoOn() {
  stop_at_flush_.reset();
  stop_at_write_.reset();
  fail_write_.reset();
  fail_flush_.reset();
  stopped_ = false;
}

bool CrashDevice::Refuses(uint64_t offset, uint64_t size) const {
  return std::ranges::any_of(refusing_, [&](const ByteExtent& place) {
    return offset < place.end() && place.offset < offset + size;
  });
}

void CrashDevice::CutPower() {
  if (!std::exchange(has_power_, false)) return;
  // Those who wait learn of it; what they do then fails at once.
  while (!waiting_.empty()) {
    const Waiting waiting = waiting_.front();
    waiting_.pop_front();
    if (waiting.request->op == IoRequest::Op::kWrite) {
      const std::span<const std::byte> data(waiting.request->data,
                                            waiting.request->size);
      unflushed_.push_back(
          {waiting.request->offset, {data.begin(), data.end()}});
    }
    Run(waiting);
  }
}

DiskImage CrashDevice::AfterPowerCut(std::mt19937_64& random) const {
  DiskImage image = durable_;
  for (const Unflushed& write : unflushed_) {
    const uint64_t fate = random() % 3;  // kept, dropped, torn
    for (uint64_t at = 0; at < write.data.size(); at += kSectorBytes) {
      if (fate == 1 || (fate == 2 && random() % 2 == 0)) continue;
      image.Write(write.offset + at,
                  std::span(write.data).subspan(at, kSectorBytes));
    }
  }
  return image;
}

void CrashDevice::RestorePower(std::mt19937_64& random) {
  durable_ = AfterPowerCut(random);
  visible_ = durable_;
  unflushed_.clear();
  has_power_ = true;
  cut_at_flush_.reset();
  cut_at_write_.reset();
  fail_write_.reset();
  fail_flush_.reset();
}

bool CrashDevice::Step() {
  if (waiting_.empty()) return false;
  const Waiting waiting = waiting_.front();
  waiting_.pop_front();
  Run(waiting);
  return true;
}

bool CrashDevice::StepRandom(std::mt19937_64& random) {
  if (waiting_.empty()) return false;
  std::swap(waiting_.front(), waiting_[random() % waiting_.size()]);
  return Step();
}

}  // namespace bootstream
