#include <algorithm>
#include <utility>

#include "initramfs/driver/driver.h"

// What streamctl asks for (control.md).

namespace bootstream {
namespace {

using nlohmann::json;

constexpr auto kLookWhetherSettled = std::chrono::milliseconds(50);

}  // namespace

Task<json> StreamDriver::Handle(json request) {
  const std::string command = request["command"];
  if (command == "status") co_return Report();
  if (command == "dirty") {
    co_return json{{"extents", DirtyExtents(*engine_)}};
  }
  if (command == "trace") co_return Trace();
  if (command == "backfill") co_return SteerBackfill(request);
  if (command == "check") co_return StartCheck(request);
  if (command == "rollback") co_return co_await WishRollback();
  if (command == "commit") co_return co_await CommitMigration();
  if (command == "healthy") co_return co_await ReportHealthy();
  if (command == "source") co_return co_await SteerSource(request);
  if (command == "wait") {
    const json what = request.value("for", json());
    std::string state;
    if (what.is_string()) state = what;
    co_return co_await WaitFor(std::move(state));
  }
  co_return ControlError("unknown command '" + command + "'");
}

json StreamDriver::Trace() const {
  const Grid& grid = engine_->manifest().grid();
  json reads = json::array();
  for (const PrefetchEntry& run : engine_->first_reads().runs()) {
    const uint64_t begin = grid.offset_of(run.first);
    const uint64_t end = std::min(
        grid.size_bytes, begin + run.count * uint64_t{grid.chunk_bytes});
    reads.push_back({run.time_ms, begin, end - begin});
  }
  return {{"disk_bytes", grid.size_bytes}, {"reads", std::move(reads)}};
}

json StreamDriver::StartCheck(const json& request) {
  const json scope = request.value("scope", json("all"));
  if (scope != "all" && scope != "boot") {
    return ControlError("check: the scope is all or boot");
  }
  const Status s = checker_->Start(scope == "boot" ? Checker::Scope::kBoot
                                                   : Checker::Scope::kAll);
  return s ? json::object() : ControlError(s.error().message);
}

json StreamDriver::SteerBackfill(const json& request) {
  const json action = request.value("action", json());
  const json rate = request.value("bytes_per_second", json());
  if (action == "pause") {
    backfill_->Pause();
    settler_->Pause();
  } else if (action == "resume") {
    settler_->Resume();
    if (request.value("when", json()) == "quiet") {
      backfill_->ResumeWhenQuiet();
    } else {
      backfill_->Resume();
    }
  } else if (action == "limit" && rate.is_number_unsigned()) {
    backfill_->SetLimit(rate.get<uint64_t>());
    settler_->SetLimit(rate.get<uint64_t>());
  } else {
    return ControlError("backfill: say pause, resume or limit with a number");
  }
  KeepBackfillState();
  return json::object();
}

// `detached` has hardly ever an answer from us: the connection ends with the
// driver.
Task<json> StreamDriver::WaitFor(std::string what) {
  if (what == "complete") {
    if (store_->superblock().phase < Phase::kComplete) {
      co_await backfill_->completed();
    }
    co_return json::object();
  }
  if (what == "committed") {
    if (!store_->superblock().committed) co_await committed_or_stopped_;
    co_return store_->superblock().committed ? json::object()
                                             : ControlError("the driver ends");
  }
  if (what != "settled" && what != "detached") {
    co_return ControlError(
        "wait: for complete, committed, settled or detached");
  }
  if (!store_->superblock().committed) {
    co_return ControlError(
        "the old system is kept: nothing settles before streamctl commit");
  }
  const bool detached = what == "detached";
  while (detached ? !ended_ : !settled() && !stopped_) {
    co_await loop_.Sleep(kLookWhetherSettled);
  }
  const bool so = detached ? left_ : settled();
  co_return so ? json::object() : ControlError("the driver ends");
}

Task<json> StreamDriver::ReportHealthy() {
  const Status s = co_await health_->ReportHealthy();
  if (!s) co_return ControlError(s.error().message);
  co_return json::object();
}

Task<json> StreamDriver::CommitMigration() {
  const Superblock& block = store_->superblock();
  if (block.committed) co_return json{{"already", true}};
  if (block.rollback_wished) {
    co_return ControlError(
        "the next start goes back to the old system, as was wished; nothing is "
        "given up");
  }
  if (source_device_->in_use()) {
    co_return ControlError(
        "the old system is attached; detach it first: streamctl source detach");
  }
  committing_ = true;
  const Status given_up = co_await engine_->GiveUpSource();
  committing_ = false;
  if (!given_up) co_return ControlError(given_up.error().message);
  committed_or_stopped_.Set();
  backfill_->GoOnWithRoom();
  co_return json{{"already", false}};
}

Task<json> StreamDriver::SteerSource(const json& request) {
  const json action = request.value("action", json());
  if (action == "detach") {
    const bool already = !source_device_->in_use();
    const Status s = co_await source_device_->Detach();
    if (!s) co_return ControlError(s.error().message);
    co_return json{{"already", already}};
  }
  if (action != "attach") {
    co_return ControlError("source: say attach or detach");
  }
  if (committing_ || store_->superblock().committed) {
    co_return ControlError("the old system was given up by commit");
  }
  const auto attached = co_await source_device_->Attach();
  if (!attached) co_return ControlError(attached.error().message);
  co_return json{{"device", attached->path}, {"already", attached->already}};
}

Task<json> StreamDriver::WishRollback() {
  // A commit that is under way may come first.
  const Status s = co_await store_->UpdateSuperblock(
      [](Superblock& block) { block.rollback_wished = !block.committed; });
  if (!s) co_return ControlError(s.error().message);
  if (store_->superblock().committed) {
    co_return ControlError("the old system was given up by commit");
  }
  co_return json::object();
}

}  // namespace bootstream
