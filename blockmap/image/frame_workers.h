#ifndef BLOCKMAP_IMAGE_FRAME_WORKERS_H_
#define BLOCKMAP_IMAGE_FRAME_WORKERS_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/result.h"
#include "blockmap/image/fetch_queue.h"

namespace bootstream {

// Threads that decompress frames and check their digests.
class FrameWorkers {
 public:
  struct Job {
    WantedFrame frame;
    size_t server = 0;
    AlignedBuffer bytes;
  };
  // Called on a worker's thread.
  using OnDone = std::function<void(Job job, Result<AlignedBuffer> content)>;

  FrameWorkers(unsigned thread_count, OnDone on_done);
  // What has not been begun is dropped.
  ~FrameWorkers();
  FrameWorkers(const FrameWorkers&) = delete;
  FrameWorkers& operator=(const FrameWorkers&) = delete;

  // Any thread.  A better class goes first; first come, first served in it.
  void Add(Job job);
  // Any thread.  False: no such frame waits.
  bool Promote(const FrameKey& key, FetchClass fetch_class);

 private:
  void Run();

  const OnDone on_done_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<FetchClass, Job> jobs_;  // under mutex_
  bool stopping_ = false;                // under mutex_
  std::vector<std::thread> threads_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_FRAME_WORKERS_H_
