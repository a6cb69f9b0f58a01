#include "bootagent/image_table.h"

#include <cstring>
#include <map>
#include <string>

#include "blockmap/base/read_only_device.h"

namespace bootstream {
namespace {

// The image as a disk to read from, chunk by chunk as they are wanted.
class ImageDevice final : public ReadOnlyDevice {
 public:
  ImageDevice(const Grid& grid, ChunkSource& source)
      : ReadOnlyDevice(grid), source_(source) {}

 private:
  Task<Status> ReadInside(uint64_t chunk, uint64_t offset,
                          std::span<std::byte> out) override {
    if (!chunks_.contains(chunk)) {
      auto content =
          co_await source_.Fetch(ImageChunk{chunk}, FetchClass::kDemand);
      if (!content) co_return content.error();
      chunks_.emplace(chunk, std::move(*content));
    }
    std::memcpy(out.data(), chunks_.at(chunk).data() + offset, out.size());
    co_return OkStatus();
  }

  ChunkSource& source_;
  std::map<uint64_t, AlignedBuffer> chunks_;
};

}  // namespace

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
