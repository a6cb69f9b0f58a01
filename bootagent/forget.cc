#include "bootagent/forget.h"

#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/partition_table.h"
#include "bootagent/locate.h"

namespace bootstream {

Task<Status> Forget(const Job& job) {
  const auto located = co_await Locate(job);
  if (!located) co_return located.error();
  const bool elsewhere =
      located->by == Located::By::kStub || located->by == Located::By::kAnchor;
  if (elsewhere) {
    co_return Error{ErrorCode::kRefused,
                    "a migration is under way on this disk; bootagent rollback "
                    "ends it"};
  }
  const auto table = co_await ReadPartitionTable(job.device);
  if (!table) co_return table.error();
  for (const Partition& partition : table->partitions) {
    const auto extents =
        FileExtents(job.disk, partition.extent, kRegionFileName);
    if (!extents) continue;
    if (auto s = RemoveFile(job.disk, partition.extent, kRegionFileName); !s) {
      co_return s;
    }
  }
  co_return OkStatus();
}

}  // namespace bootstream
