#include "blockmap/image/frame_workers.h"

#include <algorithm>
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
    const FetchClass fetch_class = job.frame.fetch_class;
    jobs_.emplace(fetch_class, std::move(job));
  }
  changed_.notify_one();
}

bool FrameWorkers::Promote(const FrameKey& key, FetchClass fetch_class) {
  const std::lock_guard lock(mutex_);
  const auto found =
      std::find_if(jobs_.begin(), jobs_.end(),
                   [&](const auto& it) { return it.second.frame.key == key; });
  if (found == jobs_.end()) return false;
  if (found->first <= fetch_class) return true;
  auto node = jobs_.extract(found);
  node.key() = node.mapped().frame.fetch_class = fetch_class;
  jobs_.insert(std::move(node));
  return true;
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
      job = std::move(jobs_.extract(jobs_.begin()).mapped());
    }
    auto content = AlignedBuffer::Unfilled(job.frame.key.content_bytes);
    const Status status = decoder.DecodeVerified(
        job.bytes.span(), job.frame.key.digest, content.span());
    job.bytes = {};
    if (status) {
      on_done_(std::move(job), std::move(content));
    } else {
      on_done_(std::move(job), status.error());
    }
  }
}

}  // namespace bootstream
