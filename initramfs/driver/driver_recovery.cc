#include <utility>

#include "initramfs/driver/driver.h"

// The recovery set, as `streamctl recovery-set` has it read (control.md).

namespace bootstream {
namespace {

using nlohmann::json;

// In the keeper's store (keeper.md).
constexpr char kKeptRecoverySet[] = "recovery-set";

}  // namespace

json StreamDriver::SteerRecoverySet(const json& request,
                                    ControlConnection& connection) {
  const json action = request.value("action", json());
  if (action == "begin") {
    const bool needed = engine_->NeedsRecoverySet();
    if (needed && !connection.held) connection.held = OpenRecoverySet();
    return {{"needed", needed}};
  }
  if (action == "end") {
    if (!connection.held)
      return ControlError("recovery-set: nothing has begun");
    connection.held.reset();
    return RecoverySetReport(*engine_);
  }
  return ControlError("recovery-set: say begin or end");
}

// Open for as long as somebody holds what this gives.
std::shared_ptr<void> StreamDriver::OpenRecoverySet() {
  engine_->OpenRecoverySet();
  return {this, [](StreamDriver* driver) {
            driver->engine_->CloseRecoverySet();
            driver->RecoverySetIsRead();
          }};
}

void StreamDriver::RecoverySetIsRead() {
  // A driver that is started again may do without, as with a loss of power.
  (void)kept_.KeepBytes(kKeptRecoverySet, engine_->recovery_set().Encode());
  if (!stopped_) Spawn(BringRecoverySet());
}

// What was read before the set was open, or could not be stored, may have gone
// since; the kernel may have it in memory, and would not ask for it now.
Task<void> StreamDriver::BringRecoverySet() {
  const auto mark = recovering_.Begin();
  const std::vector<ImageChunk> chunks = engine_->recovery_set().Sorted();
  for (const ImageChunk chunk : chunks) {
    if (stopped_) break;
    const Status s = co_await engine_->Hydrate(chunk, FetchClass::kDemand);
    if (!s) break;
  }
}

void StreamDriver::TakeKeptRecoverySet() {
  const auto bytes = kept_.TakeBytes(kKeptRecoverySet);
  if (!bytes) return;
  const uint64_t count = engine_->manifest().grid().chunk_count();
  auto set = RecoverySet::Decode(*bytes, count);
  if (set) engine_->RestoreRecoverySet(std::move(*set));
}

}  // namespace bootstream
