#ifndef BLOCKMAP_IMAGE_MANIFEST_H_
#define BLOCKMAP_IMAGE_MANIFEST_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "blockmap/image/signing.h"

namespace bootstream {

inline constexpr uint32_t kFormatVersion = 1;

// VERSION as in format.md: "13.2" -> 13 << 48 | 2 << 32.  kInvalid otherwise.
Result<uint64_t> ParseImageVersion(std::string_view text);
Status CheckImageName(std::string_view name);

// Where the bytes of one data chunk are, and what they must hash to.
struct ChunkEntry {
  Sha256 digest{};
  uint32_t pack = 0;          // index into packs()
  uint32_t packed_bytes = 0;  // length of the zstd frame
  uint64_t pack_offset = 0;   // bytes
};

struct PackEntry {
  Sha256 digest{};
  uint64_t size_bytes = 0;
};

struct ChunkRun {
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t entry = 0;  // index of the first chunk's ChunkEntry
};

struct ChunkExtent {
  uint64_t first = 0;
  uint64_t count = 0;
};

struct PrefetchEntry {
  uint64_t first = 0;
  uint32_t count = 0;
  uint32_t time_ms = 0;  // after take-over
};

// Everything a manifest says; what imgtool fills in and Encode writes.
struct ManifestContent {
  std::string name;
  std::string version;
  std::string kernel_command_line;
  std::vector<std::string> base_urls;
  uint64_t image_bytes = 0;
  uint32_t chunk_bytes = kChunkBytesDefault;
  std::vector<PackEntry> packs;
  std::vector<ChunkRun> runs;
  std::vector<ChunkEntry> chunks;
  std::vector<ChunkExtent> boot_set;  // in boot order
  std::vector<ChunkExtent> pinned;    // ascending
  std::vector<ByteExtent> tables;     // in the order that arms
  std::vector<PrefetchEntry> prefetch;
  std::array<std::byte, 16> table_id{};
  // Last partition and file system are to take up the whole disk once the
  // driver has left it.
  bool grow = false;
};

// The signed description of an image (format.md 1.1).  Immutable; any thread
// may read it.
class Manifest {
 public:
  // Check a signature by one of `keys`, then the structure of `file`
  // completely: nothing but its envelope is looked at before it is known whose
  // it is.  kCorrupt: malformed or a bad signature; kRefused: no trusted key
  // signed it; kUnsupported: newer than we are.
  static Result<Manifest> Open(std::span<const std::byte> file,
                               const TrustedKeys& keys);
  // The same without signatures: for a copy whose digest is already pinned.
  static Result<Manifest> OpenPinned(std::span<const std::byte> file,
                                     const Sha256& digest);
  // The whole signed file.  kInvalid if `content` breaks a rule of format.md.
  static Result<std::vector<std::byte>> Encode(
      const ManifestContent& content, std::span<const PrivateKey* const> keys);

  const Sha256& digest() const { return digest_; }
  uint64_t version() const { return version_; }  // as a number
  const ManifestContent& content() const { return content_; }
  Grid grid() const { return {content_.chunk_bytes, content_.image_bytes}; }
  uint64_t data_chunk_count() const { return content_.chunks.size(); }
  // nullptr: the chunk is zero.
  const ChunkEntry* Find(ImageChunk chunk) const;
  // Whether `content`, the chunk's whole, is what the manifest says.
  bool Matches(ImageChunk chunk, std::span<const std::byte> content) const;
  bool IsZero(ImageChunk chunk) const { return Find(chunk) == nullptr; }
  bool InBootSet(ImageChunk chunk) const;
  bool IsPinned(ImageChunk chunk) const;

 private:
  static Result<Manifest> Parse(std::span<const std::byte> body,
                                const Sha256& digest);
  ManifestContent content_;
  uint64_t version_ = 0;
  Sha256 digest_{};
  std::vector<ChunkExtent> boot_by_address_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_MANIFEST_H_
