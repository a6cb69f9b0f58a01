#include "bootagent/return.h"

#include "bootagent/kept_target.h"
#include "bootagent/locate.h"
#include "bootagent/migrate.h"
#include "bootagent/rollback.h"

namespace bootstream {
namespace {

Error Refused(std::string message) {
  return Error{ErrorCode::kRefused, std::move(message)};
}

Error NothingParked() {
  return Error{ErrorCode::kNotFound, "nothing is parked on this disk"};
}

Task<Status> Unpark(const Job& job, const ReturnOptions& options,
                    const Superblock& parked) {
  if (options.confirm) {
    if (auto s = options.confirm(parked); !s) co_return s;
  }
  // A rollback that was cut short at its very end has copies of the source's
  // chunks left.
  const RollbackOptions unasked;
  if (auto s = co_await Rollback(job, unasked); !s) co_return s;
  const auto located = co_await Locate(job);
  if (!located) co_return located.error();
  if (!located->superblock) co_return NothingParked();
  const auto opened =
      co_await OpenMigration(job, *located->superblock, /*read_only=*/false);
  if (!opened) co_return opened.error();
  co_return co_await TakeSourceAnew(job, options.serial, *opened->store);
}

// Is this something that Return may take up or go on with?
Status CheckState(const Located& located) {
  if (!located.superblock) return NothingParked();
  const Superblock& superblock = *located.superblock;
  const Phase phase = superblock.phase;
  const bool source_is_back = located.by == Located::By::kRegionFile;
  if (phase == Phase::kRollingBack ||
      (phase == Phase::kParked && !source_is_back)) {
    return Refused("a rollback is under way; bootagent rollback finishes it");
  }
  if (phase < Phase::kArmed && !superblock.keep_target) {
    return Refused("the disk is on its way to " + superblock.image_name +
                   " for the first time, nothing is parked on it; bootagent "
                   "migrate goes on with that");
  }
  return OkStatus();
}

}  // namespace

Task<Status> Return(const Job& job, const ReturnOptions& options,
                    ImageAccess& access) {
  const auto located = co_await Locate(job);
  if (!located) co_return located.error();
  if (auto s = CheckState(*located); !s) co_return s;
  if (located->superblock->phase == Phase::kParked) {
    auto s = co_await Unpark(job, options, *located->superblock);
    if (!s) co_return s;
  }
  MigrateOptions migrate;
  migrate.serial = options.serial;
  migrate.before_stub = options.before_stub;
  co_return co_await Migrate(job, migrate, access);
}

}  // namespace bootstream
