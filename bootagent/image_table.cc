#include "bootagent/image_table.h"

#include <string>

#include "bootagent/image_device.h"

namespace bootstream {
Task<Result<PartitionTable>> ReadImageTable(const Manifest& manifest,
                                            ChunkSource& source) {
  ImageDevice device(manifest.grid(), source);
  auto table = co_await ReadPartitionTable(device);
  if (!table) co_return Annotate(table.error(), "the image");
  co_return table;
}

Status CheckImageTable(const Manifest& manifest, const PartitionTable& table) {
  for (const Partition& partition : table.partitions) {
    if (partition.extent.offset % kBlockBytes == 0) continue;
    return Error{ErrorCode::kRefused,
                 "partition " + std::to_string(partition.number) +
                     " of the image " + manifest.content().name +
                     " does not begin at a multiple of 4 KiB"};
  }
  return OkStatus();
}

}  // namespace bootstream
