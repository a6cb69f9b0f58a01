#ifndef BLOCKMAP_MAP_CHAIN_H_
#define BLOCKMAP_MAP_CHAIN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"
#include "blockmap/map/superblock.h"

// Chains: lists of chunks that carry a byte string (format.md 2.5).

namespace bootstream {

enum class ChainKind : uint32_t {
  kCheckpoint = 1,
  kJournal = 2,
  kManifest = 3
};

// What tells one chain from every other there ever was on the disk.
struct ChainName {
  ChainKind kind = ChainKind::kCheckpoint;
  Uuid migration_id{};
  uint64_t epoch = 0;
  bool operator==(const ChainName&) const = default;
};

inline constexpr uint32_t kChainHeaderBytes = kBlockBytes;

struct ChainHeader {
  ChainName name;
  uint64_t index = 0;
  DiskChunk next{kNone};
  uint32_t payload_bytes = 0;
  uint32_t payload_crc32c = 0;
  uint64_t first_sequence = 0;  // of a journal
};

std::array<std::byte, kChainHeaderBytes> EncodeChainHeader(
    const ChainHeader& header);
// kNotFound: no chain header here; kCorrupt: a damaged one.
Result<ChainHeader> DecodeChainHeader(std::span<const std::byte> block);

inline uint32_t ChainPayloadBytes(uint32_t chunk_bytes) {
  return chunk_bytes - kChainHeaderBytes;
}
// Chunks that `payload_bytes` take; at least one.
uint64_t ChainChunksFor(uint64_t payload_bytes, uint32_t chunk_bytes);

// Write `payload` into `chunks`, which are as many as it takes.  Nothing is
// flushed.  `chunks` and `payload` must stay until it is done.  Where a write
// failed, `refused` (if not null) is the index of its chunk.
Task<Status> WriteChain(BlockDevice& device, uint32_t chunk_bytes,
                        ChainName name, std::span<const DiskChunk> chunks,
                        std::span<const std::byte> payload,
                        size_t* refused = nullptr);

// Write the headers of an empty journal, and its first blocks as zeroes.
// Nothing is flushed.
Task<Status> WriteJournalHeaders(BlockDevice& device, uint32_t chunk_bytes,
                                 ChainName name,
                                 std::span<const DiskChunk> chunks,
                                 uint64_t first_sequence,
                                 size_t* refused = nullptr);

struct Chain {
  std::vector<DiskChunk> chunks;
  uint64_t first_sequence = 0;
  std::vector<std::byte> payload;  // if it was asked for
};

// Follow the chain `name` from `head`.  kCorrupt: a chunk of it lies outside
// `disk`, is damaged or belongs to another chain.
Task<Result<Chain>> ReadChain(BlockDevice& device, Grid disk, ChainName name,
                              DiskChunk head, bool with_payload);

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_CHAIN_H_
