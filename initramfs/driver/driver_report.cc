#include <iostream>

#include "blockmap/base/buffer_memory.h"
#include "initramfs/driver/driver.h"

// What the driver says of itself, each second.

namespace bootstream {
namespace {

using nlohmann::json;

constexpr auto kSecond = std::chrono::seconds(1);

}  // namespace

json StreamDriver::Report(const SpaceFacts& space) const {
  json report = StatusReport(identity_, *engine_,
                             source_ ? source_->statistics() : final_source_,
                             *backfill_, *settler_, health_.get());
  report["check"] = checker_->Report();
  if (left_) report["phase"] = "detached";
  const std::string& attached = source_device_->path();
  report["source_device"] = attached.empty() ? json() : json(attached);
  report["recovery_set"] = RecoverySetReport(*engine_);
  report["space"] = SpaceReport(space, *engine_);
  return report;
}

void StreamDriver::EverySecond() {
  if (stopped_) return;
  WarnOfDates();
  const SpaceFacts space = Space();
  if (!options_.read_only) LookAtSpace(space);
  (void)status_file_->Replace(JsonLine(Report(space)));
  KeepBackfillState();
  ReleaseUnusedBufferMemory();
  loop_.PostAfter(kSecond, [this] { EverySecond(); });
}

void StreamDriver::WarnOfDates() {
  if (warned_of_dates_ || source_->statistics().dated_certificates == 0) return;
  warned_of_dates_ = true;
  std::cerr << "streamd: warning: a server's certificate is not valid at this "
               "machine's time; chunks are taken all the same, for each is "
               "checked by its digest. Renew the certificate, or set the clock"
            << std::endl;
}

}  // namespace bootstream
