#include <algorithm>
#include <utility>

#include "initramfs/driver/driver.h"

// What streamctl asks for (control.md).

namespace bootstream {
namespace {

using nlohmann::json;

constexpr uint64_t kPatienceMsMax = 3'600'000;
constexpr auto kLookWhetherSettled = std::chrono::milliseconds(50);
constexpr auto kLookWhetherGivenUp = std::chrono::milliseconds(10);

}  // namespace

Task<json> StreamDriver::Handle(json request, ControlConnection& connection) {
  const std::string command = request["command"];
  if (command == "status") co_return Report(Space());
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
  if (command == "boot-view") co_return co_await SteerBootView(request);
  if (command == "recovery-set") {
    co_return SteerRecoverySet(request, connection);
  }
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
  if (store_->superblock().committed) co_return json{{"already", true}};
  const Status given_up = co_await GiveUpSource();
  if (!given_up) co_return ControlError(given_up.error().message);
  co_return json{{"already", false}};
}

// Where somebody else is at it, with him.
Task<Status> StreamDriver::GiveUpSource() {
  while (committing_) co_await loop_.Sleep(kLookWhetherGivenUp);
  const Superblock& block = store_->superblock();
  if (block.committed) co_return OkStatus();
  if (block.rollback_wished || wishing_) {
    co_return Error{ErrorCode::kRefused,
                    "the next start goes back to the old system, as was "
                    "wished; nothing is given up"};
  }
  if (source_device_->in_use()) {
    co_return Error{ErrorCode::kRefused,
                    "the old system is attached; detach it first: streamctl "
                    "source detach"};
  }
  committing_ = true;
  const Status given_up = co_await engine_->GiveUpSource();
  committing_ = false;
  if (given_up) {
    committed_or_stopped_.Set();
    backfill_->GoOnWithRoom();
  }
  co_return given_up;
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

Task<json> StreamDriver::SteerBootView(const json& request) {
  const json action = request.value("action", json());
  if (action == "attach") co_return co_await AttachBootView(request);
  if (action != "detach") {
    co_return ControlError("boot-view: say attach or detach");
  }
  Status s = co_await boot_device_->Detach();
  // What was brought is durable when this is answered.
  if (s) s = co_await engine_->Flush();
  if (!s) co_return ControlError(s.error().message);
  co_return json{{"brought", boot_view_->brought_count()},
                 {"late", boot_view_->late()}};
}

Task<json> StreamDriver::AttachBootView(const json& request) {
  const json patience = request.value("bring_for_ms", json());
  const bool brings = patience.is_number_unsigned();
  // There is nothing left to bring, and the driver may leave at any time; or the
  // next boot is the old system's.
  if (settled() || (brings && store_->superblock().rollback_wished)) {
    co_return json{{"device", json()}};
  }
  if (!brings && !patience.is_null()) {
    co_return ControlError("boot-view: bring_for_ms is a number");
  }
  if (brings && options_.read_only) {
    co_return ControlError("the disk is only looked at (--read-only)");
  }
  boot_view_->Look();
  const auto attached = co_await boot_device_->Attach();
  if (!attached) co_return ControlError(attached.error().message);
  json reply = {{"device", attached->path}, {"failure", ""}};
  if (!brings) co_return reply;
  const uint64_t ms = std::min(patience.get<uint64_t>(), kPatienceMsMax);
  boot_view_->Bring(std::chrono::milliseconds(ms));
  const Status s = co_await boot_view_->BringPatched();
  if (!s) reply["failure"] = s.error().message;
  co_return reply;
}

Task<json> StreamDriver::WishRollback() {
  // A commit that is under way may come first; none begins meanwhile.
  wishing_ = true;
  const Status s = co_await store_->UpdateSuperblock(
      [](Superblock& block) { block.rollback_wished = !block.committed; });
  wishing_ = false;
  if (!s) co_return ControlError(s.error().message);
  if (store_->superblock().committed) {
    co_return ControlError("the old system was given up by commit");
  }
  co_return json{{"changes", CountChanges(*engine_)}};
}

}  // namespace bootstream
