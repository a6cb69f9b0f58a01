#ifndef BOOTAGENT_IMAGE_TABLE_H_
#define BOOTAGENT_IMAGE_TABLE_H_

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/disk/partition_table.h"
#include "blockmap/image/chunk_source.h"
#include "blockmap/image/manifest.h"

// What an image's partitions tell of it that its manifest does not.

namespace bootstream {

// The partition table of the image; its few chunks are fetched from `source`.
Task<Result<PartitionTable>> ReadImageTable(const Manifest& manifest,
                                            ChunkSource& source);

// kRefused: a partition does not begin at a multiple of 4 KiB.
Status CheckImageTable(const Manifest& manifest, const PartitionTable& table);

}  // namespace bootstream

#endif  // BOOTAGENT_IMAGE_TABLE_H_
