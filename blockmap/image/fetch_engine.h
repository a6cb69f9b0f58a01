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
#include "blockmap/image/fetch_window.h"
#include "blockmap/image/frame_workers.h"
#include "blockmap/image/http_transfer.h"
#include "blockmap/image/server_list.h"

namespace bootstream {

struct FetchOptions {
  std::vector<std::string> servers;  // packs/ lies below each; tried in order
  CurlSettings curl;
  FetchLimits limits;
  FetchWindow::Options window;  // of everything but demand
  // One request asks for as much at least, if there is, however slow the link.
  uint64_t request_bytes_min = 64 << 10;
  unsigned requests_max = 48;  // at once
  // Of these, so many are left for demand.
  unsigned requests_for_demand = 4;
  // A demand that waits longer than this, and four round trips, has the link
  // for itself.
  std::chrono::milliseconds patience{50};
  unsigned worker_count = 2;
  std::chrono::milliseconds stall_timeout{15000};
  // The longest pause after failures.
  std::chrono::milliseconds back_off_max = kBackOffMax;
  // Nothing: wait without end.
  std::optional<std::chrono::milliseconds> give_up_after;
};

// Fetches frames: one thread that talks to the network (curl multi) and some
// that decompress and check.
//
// Demand is asked for at once.  Everything else keeps to a window, in requests
// of a part of it, so that no queue stands in front of demand; while somebody
// waits for demand, backfill keeps the queue shorter still, and gives way
// altogether if that does not help.
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
  void NoteDemand();
  void StartTransfers();
  bool IsUnderWay(FetchClass fetch_class) const;
  FetchClass LowestAllowed() const;
  uint64_t BytesUnderWay() const;
  bool IsGentle() const;
  bool Fits(uint64_t window, uint64_t request) const;
  uint64_t RequestBytes() const;
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
  FetchWindow window_;
  bool window_full_ = false;
  std::optional<Duration> last_demand_;
  Duration next_give_up_check_{0};

  std::unique_ptr<FrameWorkers> workers_;
  std::thread thread_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_FETCH_ENGINE_H_
