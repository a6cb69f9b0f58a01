#ifndef BLOCKMAP_IMAGE_PACK_H_
#define BLOCKMAP_IMAGE_PACK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace bootstream {

// Packs hold one zstd frame (RFC 8878) for each chunk (format.md 1.3).

inline constexpr uint64_t kPackBytesMax = uint64_t{256} << 20;

// A frame of `content_bytes` is never longer than this.
constexpr uint32_t FrameBytesMax(uint32_t content_bytes) {
  return content_bytes + content_bytes / 128 + 256;
}

// Where a pack lies below a repository: "packs/xx/DIGEST".
std::string PackPath(const Sha256& digest);

// Makes frames; the same content and level always give the same bytes.  One
// thread each.
class FrameEncoder {
 public:
  explicit FrameEncoder(int level);
  Result<std::vector<std::byte>> Encode(std::span<const std::byte> content);

 private:
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;
};

// Takes frames apart.  One thread each.
class FrameDecoder {
 public:
  FrameDecoder();
  // Fill `content` from `frame`.  kCorrupt unless `frame` is exactly one frame
  // that says, and holds, exactly content.size() bytes; nothing beyond
  // `content` is ever written, whatever the frame claims.
  Status Decode(std::span<const std::byte> frame, std::span<std::byte> content);
  // The same, and the content must hash to `digest`.
  Status DecodeVerified(std::span<const std::byte> frame, const Sha256& digest,
                        std::span<std::byte> content);

 private:
  struct Free {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_DCtx_s, Free> context_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_PACK_H_
