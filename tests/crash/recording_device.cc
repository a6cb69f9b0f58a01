#include "tests/crash/recording_device.h"

#include <cassert>
#include <cstring>
#include <utility>

namespace bootstream {

void RecordingDevice::Submit(IoRequest& request) {
  assert(request.offset + request.size <= bytes_.size());
  assert(reinterpret_cast<uintptr_t>(request.data) % 512 == 0);
  assert(request.offset % 512 == 0 && request.size % 512 == 0);
  const Waiting waiting{&request, ++clock_, recording_.writes.size()};
  if (held_) {
    waiting_.push_back(waiting);
  } else {
    Run(waiting);
  }
}

void RecordingDevice::Run(const Waiting& waiting) {
  IoRequest& request = *waiting.request;
  switch (request.op) {
    case IoRequest::Op::kRead:
      std::memcpy(request.data, bytes_.data() + request.offset, request.size);
      break;
    case IoRequest::Op::kWrite:
      std::memcpy(bytes_.data() + request.offset, request.data, request.size);
      recording_.writes.push_back({request.offset,
                                   {request.data, request.data + request.size},
                                   waiting.submitted});
      break;
    case IoRequest::Op::kFlush:
      recording_.flushes.push_back({waiting.covers, ++clock_});
      break;
  }
  request.complete(request, OkStatus());
}

void RecordingDevice::Forget() {
  assert(waiting_.empty());
  recording_ = {};
  clock_ = 0;
}

bool RecordingDevice::Step(std::mt19937_64& random) {
  if (waiting_.empty()) return false;
  std::swap(waiting_.front(), waiting_[random() % waiting_.size()]);
  const Waiting waiting = waiting_.front();
  waiting_.pop_front();
  Run(waiting);
  return true;
}

Recording RecordingDevice::TakeRecording() {
  assert(waiting_.empty());
  recording_.end = ++clock_;
  return std::exchange(recording_, {});
}

}  // namespace bootstream
