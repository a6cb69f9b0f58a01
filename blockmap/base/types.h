#ifndef BLOCKMAP_BASE_TYPES_H_
#define BLOCKMAP_BASE_TYPES_H_

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace bootstream {

inline constexpr uint32_t kSectorBytes = 512;
// Block: the unit of validity and of dirtiness.
inline constexpr uint32_t kBlockBytes = 4096;
// Chunk: the unit of placement, transfer and digest; a power of two.
inline constexpr uint32_t kChunkBytesMin = 64 * 1024;
inline constexpr uint32_t kChunkBytesDefault = 128 * 1024;
inline constexpr uint32_t kChunkBytesMax = 256 * 1024;

// Number of a chunk in the target image.
struct ImageChunk {
  uint64_t value = 0;
  auto operator<=>(const ImageChunk&) const = default;
};

// Number of a chunk of the local disk.  Both grids start at sector 0.
struct DiskChunk {
  uint64_t value = 0;
  auto operator<=>(const DiskChunk&) const = default;
};

// The disk chunk whose number equals the image chunk's number, and back.
inline DiskChunk HomeOf(ImageChunk chunk) { return DiskChunk{chunk.value}; }
inline ImageChunk AtHomeIn(DiskChunk chunk) { return ImageChunk{chunk.value}; }

// A run of consecutive disk chunks.
struct DiskExtent {
  uint64_t first = 0;  // chunk number
  uint64_t count = 0;
  uint64_t end() const { return first + count; }
  auto operator<=>(const DiskExtent&) const = default;
};

// A run of bytes, of a file, a disk or an image.
struct ByteExtent {
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t end() const { return offset + size; }
  auto operator<=>(const ByteExtent&) const = default;
};

// The grid: chunk size and how far it reaches over `size_bytes`.  The last
// chunk is short where the size is no whole number of chunks.
struct Grid {
  uint32_t chunk_bytes = kChunkBytesDefault;
  uint64_t size_bytes = 0;

  uint64_t chunk_count() const {
    return size_bytes / chunk_bytes + (size_bytes % chunk_bytes != 0);
  }
  uint64_t offset_of(uint64_t chunk) const { return chunk * chunk_bytes; }
  // Bytes of `chunk` that exist.  REQUIRES: chunk < chunk_count().
  uint32_t bytes_of(uint64_t chunk) const {
    return static_cast<uint32_t>(
        std::min<uint64_t>(chunk_bytes, size_bytes - offset_of(chunk)));
  }
  uint32_t blocks_per_chunk() const { return chunk_bytes / kBlockBytes; }
  // A bit for each block of `chunk` that exists, block 0 lowest.
  uint64_t full_mask(uint64_t chunk) const {
    const uint32_t blocks = (bytes_of(chunk) + kBlockBytes - 1) / kBlockBytes;
    return blocks >= 64 ? ~uint64_t{0} : (uint64_t{1} << blocks) - 1;
  }
};

using Sha256 = std::array<std::byte, 32>;
using Uuid = std::array<std::byte, 16>;

}  // namespace bootstream

template <>
struct std::hash<bootstream::ImageChunk> {
  size_t operator()(bootstream::ImageChunk chunk) const noexcept {
    return std::hash<uint64_t>()(chunk.value);
  }
};
template <>
struct std::hash<bootstream::DiskChunk> {
  size_t operator()(bootstream::DiskChunk chunk) const noexcept {
    return std::hash<uint64_t>()(chunk.value);
  }
};

#endif  // BLOCKMAP_BASE_TYPES_H_
