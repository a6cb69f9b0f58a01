#include "blockmap/image/fetch_engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmap/image/least_rights.h"

namespace bootstream {
namespace {

constexpr std::chrono::milliseconds kGiveUpCheckInterval(20);
constexpr std::chrono::milliseconds kPollMax(1000);
// What has been asked for will soon be asked for again.
constexpr std::chrono::milliseconds kRecently(1000);
// Of a window, at least: a connection is idle for a round trip between two.
constexpr uint64_t kRequestsOfWindow = 8;
constexpr uint64_t kRequestsOfSmallWindow = 4;
constexpr uint64_t kGentleRequests = 2;

FetchOptions CountingDates(FetchOptions options, std::atomic<uint64_t>& count) {
  options.curl.dated_certificates = &count;
  return options;
}

AlignedBuffer CopyOf(const AlignedBuffer& buffer) {
  AlignedBuffer copy(buffer.size());
  std::memcpy(copy.data(), buffer.data(), buffer.size());
  return copy;
}

}  // namespace

FetchEngine::FetchEngine(FetchOptions options, std::vector<PackFile> packs,
                         Deliver deliver)
    : options_(CountingDates(std::move(options), dated_certificates_)),
      packs_(std::move(packs)),
      deliver_(std::move(deliver)),
      multi_(curl_multi_init()),
      last_progress_ns_(Now().count()),
      random_(std::random_device()()),
      servers_(options_.servers, random_, options_.back_off_max),
      window_(options_.window) {
  if (!multi_) std::abort();
  curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS,
                    static_cast<long>(options_.requests_max));
  workers_ = std::make_unique<FrameWorkers>(
      options_.worker_count,
      [this](FrameWorkers::Job job, Result<AlignedBuffer> content) {
        OnContent(std::move(job), std::move(content));
      });
  thread_ = std::thread([this] { Run(); });
}

FetchEngine::~FetchEngine() {
  stopping_ = true;
  curl_multi_wakeup(multi_.get());
  thread_.join();
  workers_.reset();
  for (const auto& transfer : transfers_) {
    curl_multi_remove_handle(multi_.get(), transfer->handle());
  }
}

FetchEngine::Duration FetchEngine::Now() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

void FetchEngine::Post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
    if (posted_.size() > 1) return;  // whoever was first has woken the thread
  }
  curl_multi_wakeup(multi_.get());
}

void FetchEngine::RunPosted() {
  std::vector<std::function<void()>> posted;
  {
    const std::lock_guard lock(mutex_);
    posted.swap(posted_);
  }
  for (auto& work : posted) work();
}

void FetchEngine::Fetch(const FrameKey& key, FetchClass fetch_class,
                        uint64_t waiter) {
  Post([this, key, fetch_class, waiter] {
    WantedFrame frame;
    frame.key = key;
    frame.fetch_class = fetch_class;
    frame.waiters = {waiter};
    frame.since = Now();
    queue_.Add(std::move(frame));
  });
}

void FetchEngine::Promote(const FrameKey& key, FetchClass fetch_class) {
  Post([this, key, fetch_class] {
    if (queue_.Promote(key, fetch_class)) return;
    for (const auto& transfer : transfers_) {
      if (transfer->Promote(key, fetch_class)) return;
    }
    (void)workers_->Promote(key, fetch_class);
  });
}

FetchStatistics FetchEngine::statistics() const {
  const std::lock_guard lock(mutex_);
  FetchStatistics statistics = statistics_;
  statistics.dated_certificates = dated_certificates_;
  return statistics;
}

void FetchEngine::Run() {
  DropRightsOfThisThread();
  while (!stopping_) {
    RunPosted();
    GiveUp();
    NoteDemand();
    StartTransfers();
    HoldBackfill();
    for (const auto& transfer : transfers_) transfer->SetNow(Now());
    int running = 0;
    curl_multi_perform(multi_.get(), &running);
    for (const auto& transfer : transfers_) CountReceived(*transfer);
    CollectFinished();
    EndStalled();
    curl_multi_poll(multi_.get(), nullptr, 0, TimeoutMs(), nullptr);
  }
}

bool FetchEngine::IsUnderWay(FetchClass fetch_class) const {
  return std::any_of(transfers_.begin(), transfers_.end(), [&](const auto& it) {
    return it->fetch_class() == fetch_class;
  });
}

void FetchEngine::NoteDemand() {
  const bool demand =
      queue_.Has(FetchClass::kDemand) || IsUnderWay(FetchClass::kDemand);
  if (demand) last_demand_ = Now();
}

void FetchEngine::StartTransfers() {
  while (!queue_.empty() && transfers_.size() < options_.requests_max) {
    const auto server = servers_.Pick(Now(), SIZE_MAX);
    if (!server || !StartOne(*server, LowestAllowed())) break;
  }
  window_full_ = BytesUnderWay() >= window_.bytes() / 2 &&
                 queue_.HasDue(Now(), FetchClass::kBackfill);
}

// The worst class that a new request may have just now.
FetchClass FetchEngine::LowestAllowed() const {
  const unsigned others =
      options_.requests_max > options_.requests_for_demand
          ? options_.requests_max - options_.requests_for_demand
          : 1;
  const auto not_demand = std::count_if(
      transfers_.begin(), transfers_.end(),
      [](const auto& it) { return it->fetch_class() != FetchClass::kDemand; });
  if (not_demand >= others) return FetchClass::kDemand;
  if (!Fits(window_.bytes(), RequestBytes())) return FetchClass::kDemand;
  const uint64_t gentle = window_.gentle_bytes();
  const bool in_the_way = IsGentle() && !Fits(gentle, gentle / kGentleRequests);
  return in_the_way ? FetchClass::kReadAhead : FetchClass::kBackfill;
}

// Somebody who has just waited will soon wait again.
bool FetchEngine::IsGentle() const {
  return last_demand_ && Now() - *last_demand_ < kRecently;
}

bool FetchEngine::Fits(uint64_t window, uint64_t request) const {
  const uint64_t bytes = BytesUnderWay();
  return bytes == 0 || bytes + request <= window;
}

uint64_t FetchEngine::BytesUnderWay() const {
  uint64_t bytes = 0;
  for (const auto& transfer : transfers_) bytes += transfer->remaining();
  return bytes;
}

uint64_t FetchEngine::RequestBytes() const {
  const uint64_t window = window_.bytes();
  const uint64_t least =
      std::min(window / kRequestsOfSmallWindow, options_.request_bytes_min);
  const uint64_t most = std::max(window / kRequestsOfWindow, least);
  return std::min(options_.limits.batch_bytes,
                  std::clamp(window_.burst_bytes(), least, most));
}

bool FetchEngine::StartOne(size_t server, FetchClass lowest) {
  const Duration now = Now();
  FetchLimits limits = options_.limits;
  limits.batch_bytes = RequestBytes();
  if (IsGentle() && !queue_.Has(FetchClass::kReadAhead)) {  // backfill
    limits.batch_bytes =
        std::min(limits.batch_bytes, window_.gentle_bytes() / kGentleRequests);
  }
  auto batch = queue_.Take(now, lowest, limits);
  if (!batch) return false;
  const WantedFrame& first = batch->frames.front();
  if (first.failures > 0) {
    server = servers_.Pick(now, first.avoid_server).value_or(server);
  }
  HttpTransfer::Request request;
  const PackFile& pack = packs_[batch->pack()];
  request.url = servers_.url(server) + pack.path;
  request.server = server;
  request.pack_bytes = pack.size_bytes;
  request.past_caches = first.corrupt;
  request.batch = std::move(*batch);

  // A new handle each time: libcurl 7.88 keeps a pointer to the last header of
  // a handle's reply beyond its end, and goes on with it when the next reply
  // begins with a folded line.  Connections are the multi handle's.
  transfers_.push_back(std::make_unique<HttpTransfer>(
      MakeCurlHandle(options_.curl), std::move(request), now,
      [this, server](WantedFrame frame, AlignedBuffer bytes) {
        workers_->Add({std::move(frame), server, std::move(bytes)});
      }));
  curl_multi_add_handle(multi_.get(), transfers_.back()->handle());
  const std::lock_guard lock(mutex_);
  ++statistics_.requests;
  return true;
}

void FetchEngine::HoldBackfill() {
  const Duration now = Now();
  const Duration patience = options_.patience + 4 * window_.round_trip();
  const bool demand =
      std::any_of(transfers_.begin(), transfers_.end(), [&](const auto& it) {
        return it->fetch_class() == FetchClass::kDemand &&
               now - it->started() > patience;
      });
  for (const auto& transfer : transfers_) {
    const bool hold =
        demand && transfer->fetch_class() == FetchClass::kBackfill;
    if (hold != transfer->held()) transfer->Hold(hold, now);
  }
}

void FetchEngine::CountReceived(HttpTransfer& transfer) {
  if (const auto wait = transfer.TakeFirstByteWait()) {
    window_.OnFirstByte(Now(), *wait);
  }
  const uint64_t received = transfer.TakeReceived();
  if (received == 0) return;
  window_.OnReceived(Now(), received, window_full_);
  const std::lock_guard lock(mutex_);
  statistics_.bytes_received += received;
}

void FetchEngine::CollectFinished() {
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    char* self = nullptr;
    const CURLcode code = message->data.result;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &self);
    End(reinterpret_cast<HttpTransfer*>(self), code, nullptr);
  }
}

void FetchEngine::EndStalled() {
  const Duration now = Now();
  std::vector<HttpTransfer*> stalled;
  for (const auto& transfer : transfers_) {
    if (!transfer->held() &&
        now - transfer->last_activity() >= options_.stall_timeout) {
      stalled.push_back(transfer.get());
    }
  }
  for (HttpTransfer* transfer : stalled) {
    End(transfer, CURLE_OPERATION_TIMEDOUT, "nothing came for too long");
  }
}

void FetchEngine::End(HttpTransfer* transfer, CURLcode code, const char* why) {
  const auto found =
      std::find_if(transfers_.begin(), transfers_.end(),
                   [transfer](const auto& it) { return it.get() == transfer; });
  const std::unique_ptr<HttpTransfer> ended = std::move(*found);
  transfers_.erase(found);
  CountReceived(*ended);
  curl_multi_remove_handle(multi_.get(), ended->handle());
  HttpTransfer::Verdict verdict = ended->Judge(code, options_.curl);
  if (why != nullptr) verdict.why += std::string(" (") + why + ")";
  if (ended->whole_file()) {
    const std::lock_guard lock(mutex_);
    ++statistics_.whole_files;
  }
  if (verdict.outcome == HttpTransfer::Outcome::kDone) {
    servers_.Succeeded(ended->server());
    // Another one may know ranges.
    if (ended->whole_file()) servers_.Disappointed(ended->server());
    return;
  }
  NoteFailure(verdict.trouble, verdict.why);
  if (verdict.outcome == HttpTransfer::Outcome::kServerFailed) {
    servers_.Failed(ended->server(), Now(), verdict.retry_after);
    for (auto& frame : ended->TakeRest()) queue_.Add(std::move(frame));
    return;
  }
  servers_.Disappointed(ended->server());
  for (auto& frame : ended->TakeRest()) {
    frame.corrupt = false;
    FrameFailed(std::move(frame), ended->server());
  }
}

void FetchEngine::NoteFailure(FetchTrouble trouble, const std::string& why) {
  const std::lock_guard lock(mutex_);
  ++statistics_.retries;
  ++statistics_.troubles[static_cast<size_t>(trouble)];
  statistics_.waiting = true;
  statistics_.last_failure = why;
}

void FetchEngine::FrameFailed(WantedFrame frame, size_t server) {
  const Duration now = Now();
  if (frame.failures++ == 0) frame.first_failure = now;
  frame.avoid_server = server;
  // Every server is asked once before the first pause.
  if (frame.failures >= servers_.size()) {
    frame.not_before =
        now +
        BackOff(frame.failures - static_cast<uint32_t>(servers_.size()) + 1,
                random_, options_.back_off_max);
  }
  queue_.Add(std::move(frame));
}

void FetchEngine::OnContent(FrameWorkers::Job job,
                            Result<AlignedBuffer> content) {
  if (content) {
    last_progress_ns_ = Now().count();
    return DeliverAll(job.frame, std::move(content));
  }
  {
    const std::lock_guard lock(mutex_);
    ++statistics_.digest_mismatches;
    statistics_.bytes_refused += job.frame.key.packed_bytes;
  }
  // Shared, as std::function wants to be copied.
  auto shared = std::make_shared<FrameWorkers::Job>(std::move(job));
  Post([this, shared, why = content.error().message] {
    const std::string text = servers_.url(shared->server) +
                             packs_[shared->frame.key.pack].path + ": " + why;
    NoteFailure(FetchTrouble::kDigest, text);
    shared->frame.corrupt = true;
    FrameFailed(std::move(shared->frame), shared->server);
  });
}

void FetchEngine::DeliverAll(const WantedFrame& frame,
                             Result<AlignedBuffer> content) {
  {
    const std::lock_guard lock(mutex_);
    if (content) {
      statistics_.chunks_delivered += frame.waiters.size();
      statistics_.waiting = false;
    }
  }
  for (size_t i = 0; i + 1 < frame.waiters.size(); ++i) {
    if (content) {
      deliver_(frame.waiters[i], CopyOf(*content));
    } else {
      deliver_(frame.waiters[i], content.error());
    }
  }
  deliver_(frame.waiters.back(), std::move(content));
}

// A frame that fails by itself has its own time; the others are given up when
// nothing at all has come for so long.
void FetchEngine::GiveUp() {
  const Duration now = Now();
  if (!options_.give_up_after || now < next_give_up_check_) return;
  next_give_up_check_ = now + kGiveUpCheckInterval;
  const Duration last_progress(last_progress_ns_.load());
  const auto expired = queue_.TakeIf([&](const WantedFrame& frame) {
    const Duration since = frame.failures > 0
                               ? frame.first_failure
                               : std::max(frame.since, last_progress);
    return now - since >= *options_.give_up_after;
  });
  if (expired.empty()) return;
  const std::string last_failure = statistics().last_failure;
  for (const WantedFrame& frame : expired) {
    const ErrorCode code =
        frame.corrupt ? ErrorCode::kCorrupt : ErrorCode::kUnavailable;
    DeliverAll(frame, Error{code, last_failure.empty() ? "no server answers"
                                                       : last_failure});
  }
}

int FetchEngine::TimeoutMs() const {
  const Duration now = Now();
  Duration wait = kPollMax;
  const auto until = [&wait, now](Duration when) {
    wait = std::min(wait, std::max(when - now, Duration(0)));
  };
  for (const auto& transfer : transfers_) {
    if (!transfer->held()) {
      until(transfer->last_activity() + options_.stall_timeout);
    }
  }
  if (!queue_.empty() && transfers_.size() < options_.requests_max) {
    if (!servers_.Pick(now, SIZE_MAX)) {
      until(servers_.NextReady());
    } else if (queue_.HasDue(now, LowestAllowed())) {
      return 0;
    } else {
      if (const auto due = queue_.NextDue(now)) until(*due);
    }
  }
  if (options_.give_up_after && !queue_.empty()) until(next_give_up_check_);
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(wait);
  return static_cast<int>(ms.count());
}

}  // namespace bootstream
