#ifndef BLOCKMAP_IMAGE_FETCH_ENGINE_H_
#define BLOCKMAP_IMAGE_FETCH_ENGINE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "blockmap/image/curl_handle.h"
#include "blockmap/image/fetch_queue.h"
#include "blockmap/image/frame_workers.h"
#include "blockmap/image/http_transfer.h"
#include "blockmap/image/server_list.h"

namespace bootstream {

struct FetchOptions {
  std::vector<std::string> servers;  // packs/ lies below each; tried in order
  CurlSettings curl;
  FetchLimits limits;
  unsigned requests_max = 8;  // at once
  // Of these, so many are left for demand, ...
  unsigned requests_for_demand = 2;
  // ... and backfill has so few, which makes them large, with so many bytes.
  unsigned backfill_requests_max = 4;
  uint64_t backfill_bytes_max = 8 << 20;
  unsigned worker_count = 2;
  std::chrono::milliseconds stall_timeout{15000};
  // The longest pause after failures.
  std::chrono::milliseconds back_off_max = kBackOffMax;
  // Nothing: wait without end.
  std::optional<std::chrono::milliseconds> give_up_after;
};

// Fetches frames: one thread that talks to the network (curl multi) and some
// that decompress and check.  While a demand is wanted, backfill holds still.
//
// A frame fails alone (wrong digest, wrong reply) or with its server (no
// answer); in both cases it is asked for again, from another server if there
// is one, after a pause that grows.
class FetchEngine {
 public:
  struct PackFile {
    std::string path;  // "packs/xx/DIGEST"
    uint64_t size_bytes = 0;
  };
  // Called for each waiter of a frame, on some thread of the engine.
  using Deliver = std::function<void(uint64_t waiter, Result<AlignedBuffer>)>;

  FetchEngine(FetchOptions options, std::vector<PackFile> packs,
              Deliver deliver);
  // Waiters are not told.
  ~FetchEngine();
  FetchEngine(const FetchEngine&) = delete;
  FetchEngine& operator=(const FetchEngine&) = delete;

  // Any thread.
  void Fetch(const FrameKey& key, FetchClass fetch_class, uint64_t waiter);
  void Promote(const FrameKey& key, FetchClass fetch_class);
  void SetBackfillRate(uint64_t bytes_per_second);  // 0: no limit
  void SetBackfillPaused(bool paused);
  FetchStatistics statistics() const;

 private:
  using Duration = Executor::Duration;
  struct MultiFree {
    void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
  };
  using Transfers = std::vector<std::unique_ptr<HttpTransfer>>;

  static Duration Now();
  void Post(std::function<void()> work);
  void RunPosted();

  // The network thread.
  void Run();
  void StartTransfers();
  FetchClass LowestAllowed() const;
  bool StartOne(size_t server, FetchClass lowest);
  void HoldBackfill();
  void CollectFinished();
  void EndStalled();
  void End(HttpTransfer* transfer, CURLcode code, const char* why);
  void GiveUp();
  void CountReceived(HttpTransfer& transfer);
  int TimeoutMs() const;

  void FrameFailed(WantedFrame frame, size_t server);
  void NoteFailure(FetchTrouble trouble, const std::string& why);
  // On a worker's thread.
  void OnContent(FrameWorkers::Job job, Result<AlignedBuffer> content);
  void DeliverAll(const WantedFrame& frame, Result<AlignedBuffer> content);

  std::atomic<uint64_t> dated_certificates_{0};
  const FetchOptions options_;
  const std::vector<PackFile> packs_;
  const Deliver deliver_;
  std::unique_ptr<CURLM, MultiFree> multi_;

  mutable std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // under mutex_
  FetchStatistics statistics_;                 // under mutex_
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> last_progress_ns_;

  // The network thread's.
  std::mt19937_64 random_;
  ServerList servers_;
  FetchQueue queue_;
  Transfers transfers_;
  uint64_t backfill_rate_ = 0;
  bool backfill_paused_ = false;
  Duration backfill_not_before_{0};  // by the rate
  Duration next_give_up_check_{0};

  std::unique_ptr<FrameWorkers> workers_;
  std::thread thread_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_FETCH_ENGINE_H_
