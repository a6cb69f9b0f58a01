#ifndef IMGSERVER_OVERLAY_DISK_H_
#define IMGSERVER_OVERLAY_DISK_H_

#include <array>
#include <unordered_map>

#include "blockmap/base/block_service.h"
#include "imgserver/disk_image.h"

namespace bootstream {

// A disk image that can be written without being changed: what is written is
// kept in memory, in blocks of 4 KiB, up to a limit (then kNoSpace), and
// forgotten at the end.  Blocking: everything completes inside the call.
class OverlayDisk final : public BlockService {
 public:
  OverlayDisk(const DiskImage& image, uint64_t written_bytes_max)
      : image_(image), blocks_max_(written_bytes_max / kBlockBytes) {}

  uint64_t size_bytes() const override { return image_.size_bytes(); }
  Task<Status> Read(uint64_t offset, std::span<std::byte> out) override;
  Task<Status> Write(uint64_t offset, std::span<const std::byte> data,
                     bool fua) override;
  Task<Status> Flush() override { co_return OkStatus(); }
  Task<Status> Discard(uint64_t, uint64_t) override { co_return OkStatus(); }
  Task<Status> WriteZeroes(uint64_t offset, uint64_t size, bool fua) override;

 private:
  using Block = std::array<std::byte, kBlockBytes>;
  // The block to write to; a copy of the image's at first.
  Result<Block*> Writable(uint64_t number);

  const DiskImage& image_;
  const uint64_t blocks_max_;
  std::unordered_map<uint64_t, Block> written_;
};

}  // namespace bootstream

#endif  // IMGSERVER_OVERLAY_DISK_H_
