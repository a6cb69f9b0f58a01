#include "blockmap/image/frame_workers.h"

#include <utility>

#include "blockmap/image/least_rights.h"
#include "blockmap/image/pack.h"

namespace bootstream {

FrameWorkers::FrameWorkers(unsigned thread_count, OnDone on_done)
    : on_done_(std::move(on_done)) {
  for (unsigned i = 0; i < thread_count; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

FrameWorkers::~FrameWorkers() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    jobs_.clear();
  }
  changed_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void FrameWorkers::Add(Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    if (job.frame.fetch_class == FetchClass::kDemand) {
      jobs_.push_front(std::move(job));
    } else {
      jobs_.push_back(std::move(job));
    }
  }
  changed_.notify_one();
}

void FrameWorkers::Run() {
  DropRightsOfThisThread();
  FrameDecoder decoder;
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    auto content = AlignedBuffer::Unfilled(job.frame.key.content_bytes);
    const Status status =
        decoder.DecodeVerified(job.bytes, job.frame.key.digest, content.span());
    job.bytes = {};
    if (status) {
      on_done_(std::move(job), std::move(content));
    } else {
      on_done_(std::move(job), status.error());
    }
  }
}

}  // namespace bootstream
