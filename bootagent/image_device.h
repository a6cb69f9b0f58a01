#ifndef BOOTAGENT_IMAGE_DEVICE_H_
#define BOOTAGENT_IMAGE_DEVICE_H_

#include <cstring>
#include <map>

#include "blockmap/base/read_only_device.h"
#include "blockmap/image/chunk_source.h"

namespace bootstream {

// The image as a disk to read from, chunk by chunk as they are wanted; each is
// fetched once.  `source` must outlive it.  One thread.
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

}  // namespace bootstream

#endif  // BOOTAGENT_IMAGE_DEVICE_H_
