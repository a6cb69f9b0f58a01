#ifndef BOOTAGENT_TABLES_H_
#define BOOTAGENT_TABLES_H_

#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/disk/partition_table.h"
#include "blockmap/map/map_store.h"
#include "bootagent/image_access.h"
#include "bootagent/job.h"

// The few sectors that decide which system starts.  Every one is written by
// itself and flushed, LBA 0 in an order that leaves no half system: it is the
// first to become invalid, as the stub, and the last to become valid.  So from
// the first write to the last the stub leads to the migration.

namespace bootstream {

// The source's partition table, whatever has happened to it on the disk: read
// from the relocated copies where there are any.
Task<Result<PartitionTable>> ReadSourceTable(const Job& job,
                                             const MapStore& store);

// The sectors that WriteStub writes, in the order in which the source's go
// back: the backup GPT header and LBA 1 if there is a GPT, LBA 0 last.
std::vector<ByteExtent> SourceTableSectors(const PartitionTable& source);

// LBA 0 becomes the stub, then `others` (LBA 1, the backup header) zeroes.
// Stop points: PREFIX-stub, PREFIX-invalid.
Task<Status> WriteStub(const Job& job, const MapStore& store,
                       std::span<const ByteExtent> others,
                       const std::string& prefix);

// Put the source's table sectors back from the relocated copies, in the order
// of SourceTableSectors.  Stop point: source-table, once for each.
Task<Status> RestoreSourceTable(const Job& job, const MapStore& store,
                                std::span<const ByteExtent> sectors);

// Bring the image chunks that its tables touch home, all but the table sectors
// themselves.  Stop point: tables-around.
Task<Status> WriteAroundTables(const Job& job, const MapStore& store,
                               const Manifest& manifest);

// Write the image's tables in the order that arms, then record the chunks as
// being at home.  Stop points: table (once for each), tables-recorded.
Task<Status> WriteTargetTables(const Job& job, MapStore& store,
                               const Manifest& manifest);

}  // namespace bootstream

#endif  // BOOTAGENT_TABLES_H_
