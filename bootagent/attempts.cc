#include "bootagent/attempts.h"

#include <functional>

#include "bootagent/locate.h"

namespace bootstream {
namespace {

bool IsUntried(const Superblock& superblock) {
  const bool starts =
      superblock.phase >= Phase::kArmed && superblock.phase <= Phase::kComplete;
  return starts && !superblock.healthy_once && !superblock.committed;
}

}  // namespace

bool IsGivenUp(const Superblock& superblock, uint32_t limit) {
  const uint64_t tried = uint64_t{superblock.boots_without_health} +
                         superblock.starts_without_boot;
  return limit != 0 && IsUntried(superblock) && tried >= limit;
}

Task<Status> CountStart(const Job& job) {
  const auto located = co_await Locate(job);
  if (!located) co_return located.error();
  if (!located->superblock || !IsUntried(*located->superblock)) {
    co_return OkStatus();
  }
  const auto opened =
      co_await OpenMigration(job, *located->superblock, /*read_only=*/false);
  if (!opened) co_return opened.error();
  const std::function<void(Superblock&)> count = [](Superblock& superblock) {
    ++superblock.starts_without_boot;
  };
  co_return co_await opened->store->UpdateSuperblock(count);
}

}  // namespace bootstream
