#ifndef IMGSERVER_PACK_WRITER_H_
#define IMGSERVER_PACK_WRITER_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "blockmap/base/unique_fd.h"
#include "blockmap/image/manifest.h"
#include "blockmap/image/signing.h"
#include "imgserver/repository.h"

namespace bootstream {

// Writes frames into new packs, in order, each pack up to `bytes_max`.  The
// packs are not seen in the repository before Publish.  One thread.
class PackWriter {
 public:
  struct Place {
    size_t pack = 0;  // of the new ones, from 0
    uint64_t offset = 0;
  };

  PackWriter(const Repository& repository, uint64_t bytes_max)
      : repository_(repository), bytes_max_(bytes_max) {}
  // Removes what was not published.
  ~PackWriter();
  PackWriter(const PackWriter&) = delete;
  PackWriter& operator=(const PackWriter&) = delete;

  Result<Place> Append(std::span<const std::byte> frame);
  // No more frames: all packs durable; what they are called.
  Result<std::vector<PackEntry>> Finish();
  // REQUIRES: Finish returned OK.
  Status Publish();
  uint64_t written_bytes() const { return written_bytes_; }

 private:
  struct Pack {
    std::string path;
    PackEntry entry;
  };
  Status Begin();
  Status End();
  Status FlushBuffer();

  const Repository& repository_;
  const uint64_t bytes_max_;
  std::vector<Pack> packs_;
  UniqueFd fd_;  // of the last one, while it grows
  std::optional<Sha256Stream> digest_;
  std::vector<std::byte> buffer_;
  uint64_t written_bytes_ = 0;
};

}  // namespace bootstream

#endif  // IMGSERVER_PACK_WRITER_H_
