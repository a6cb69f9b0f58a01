#include "initramfs/driver/recovery_set.h"

#include <algorithm>

#include "blockmap/base/coding.h"

namespace bootstream {
namespace {

// chunks_max and whole.
constexpr size_t kHeadBytes = 16;
constexpr size_t kChunkBytes = 8;

}  // namespace

void RecoverySet::Open(uint64_t chunks_max) {
  if (windows_++ == 0) whole_ = true;
  chunks_max_ = std::min(chunks_max, kChunksMax);
}

void RecoverySet::Close() {
  if (windows_ != 0) --windows_;
}

void RecoverySet::Add(ImageChunk chunk) {
  if (chunks_.contains(chunk)) return;
  if (chunks_.size() >= chunks_max_) {
    whole_ = false;
    return;
  }
  chunks_.insert(chunk);
}

std::vector<ImageChunk> RecoverySet::Sorted() const {
  std::vector<ImageChunk> sorted(chunks_.begin(), chunks_.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

std::vector<std::byte> RecoverySet::Encode() const {
  std::vector<std::byte> bytes;
  ByteWriter out(bytes);
  out.U64(chunks_max_);
  out.U64(whole_ ? 1 : 0);
  for (const ImageChunk chunk : Sorted()) out.U64(chunk.value);
  return bytes;
}

std::optional<RecoverySet> RecoverySet::Decode(std::span<const std::byte> bytes,
                                               uint64_t chunk_count) {
  const bool sized = bytes.size() >= kHeadBytes &&
                     (bytes.size() - kHeadBytes) % kChunkBytes == 0;
  if (!sized) return std::nullopt;
  ByteReader in(bytes);
  RecoverySet set;
  set.chunks_max_ = std::min(in.U64(), kChunksMax);
  set.whole_ = in.U64() == 1;
  const uint64_t count = (bytes.size() - kHeadBytes) / kChunkBytes;
  if (count > set.chunks_max_) return std::nullopt;
  for (uint64_t i = 0; i < count; ++i) {
    const ImageChunk chunk{in.U64()};
    if (chunk.value >= chunk_count) return std::nullopt;
    set.chunks_.insert(chunk);
  }
  return set;
}

}  // namespace bootstream
