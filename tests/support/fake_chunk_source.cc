#include "tests/support/fake_chunk_source.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace bootstream {

FakeChunkSource::~FakeChunkSource() {
  while (!waiters_.empty()) {
    Finish(waiters_.front()->chunk,
           Error{ErrorCode::kUnavailable, "the source is gone"});
  }
}

AlignedBuffer FakeChunkSource::BytesOf(ImageChunk chunk) const {
  AlignedBuffer out(grid_.bytes_of(chunk.value));
  std::memcpy(out.data(), image_->data() + grid_.offset_of(chunk.value),
              out.size());
  return out;
}

Task<Result<AlignedBuffer>> FakeChunkSource::Fetch(ImageChunk chunk,
                                                   FetchClass fetch_class) {
  assert(chunk.value < grid_.chunk_count());
  fetches_.push_back({chunk, fetch_class});
  ++statistics_.requests;
  if (failure_) {
    Error error = *failure_;
    if (!failure_stays_) failure_.reset();
    statistics_.last_failure = error.message;
    co_return error;
  }
  if (holding_) {
    Waiter waiter{chunk, {}, {}};
    waiters_.push_back(&waiter);
    co_await waiter.done;
    if (waiter.error) co_return *waiter.error;
  }
  ++statistics_.chunks_delivered;
  statistics_.bytes_received += grid_.bytes_of(chunk.value);
  co_return BytesOf(chunk);
}

void FakeChunkSource::Promote(ImageChunk chunk, FetchClass fetch_class) {
  promotions_.push_back({chunk, fetch_class});
}

void FakeChunkSource::Release() {
  holding_ = false;
  while (!waiters_.empty()) Finish(waiters_.front()->chunk, std::nullopt);
}

bool FakeChunkSource::Complete(ImageChunk chunk) {
  return Finish(chunk, std::nullopt);
}

bool FakeChunkSource::Fail(ImageChunk chunk, Error error) {
  return Finish(chunk, std::move(error));
}

void FakeChunkSource::FailNext(Error error, bool always) {
  failure_ = std::move(error);
  failure_stays_ = always;
}

bool FakeChunkSource::Finish(ImageChunk chunk, std::optional<Error> error) {
  const auto found =
      std::find_if(waiters_.begin(), waiters_.end(),
                   [chunk](const Waiter* w) { return w->chunk == chunk; });
  if (found == waiters_.end()) return false;
  Waiter* waiter = *found;
  waiters_.erase(found);
  waiter->error = std::move(error);
  waiter->done.Set();
  return true;
}

std::vector<ImageChunk> FakeChunkSource::waiting() const {
  std::vector<ImageChunk> out;
  for (const Waiter* waiter : waiters_) out.push_back(waiter->chunk);
  return out;
}

}  // namespace bootstream
