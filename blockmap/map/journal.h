#ifndef BLOCKMAP_MAP_JOURNAL_H_
#define BLOCKMAP_MAP_JOURNAL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"
#include "blockmap/map/block_map.h"
#include "blockmap/map/chain.h"

// The journal: changes of the map, in order, since the checkpoint (format.md
// 2.6).  A commit is a run of blocks of which the last carries the commit flag;
// it counts when all of them are valid.

namespace bootstream {

struct SetRecord {
  ImageChunk chunk;
  ChunkState state;
};
struct RelocationRecord {
  DiskChunk source;
  std::optional<DiskChunk> now;
};
struct PatchRecord {
  ImageChunk chunk;
  Patch patch;
};
struct ContinueRecord {
  uint64_t epoch = 0;
  DiskChunk chunk;
};
using Record =
    std::variant<SetRecord, RelocationRecord, PatchRecord, ContinueRecord>;

inline constexpr uint32_t kJournalBlockBytes = kBlockBytes;
inline constexpr uint32_t kJournalPayloadBytes = 4080;
// The longest patch that one record holds.
inline constexpr uint32_t kPatchBytesMax = kJournalPayloadBytes - 15;

// Append `record` to `out` as format.md 2.6 writes it.
void EncodeRecord(const Record& record, std::vector<std::byte>& out);

// Records on their way to the disk, packed into the payloads of blocks.
class RecordBatch {
 public:
  void Add(const Record& record);
  bool empty() const { return payloads_.empty(); }
  uint64_t block_count() const { return payloads_.size(); }
  const std::vector<std::vector<std::byte>>& payloads() const {
    return payloads_;
  }

 private:
  std::vector<std::vector<std::byte>> payloads_;
};

// The records in the payload of one block, or in any run of them.  kCorrupt:
// cut short or senseless; kUnsupported: a kind that we do not know.
Result<std::vector<Record>> DecodeRecords(std::span<const std::byte> payload);

// Where a journal lies, and where in it one stands.
struct JournalPlace {
  ChainName name;
  std::vector<DiskChunk> chunks;
};
struct JournalPosition {
  uint64_t block = 0;     // the next block's number in the journal
  uint64_t sequence = 0;  // and its sequence
  uint32_t seed = 0;      // the checksum of the block before it
};

// The position at the start of an empty journal.
JournalPosition JournalStart(const ChainName& name, uint64_t first_sequence);

// Appends commits to one journal.  Nothing is flushed.  One call at a time.
class JournalWriter {
 public:
  JournalWriter() = default;
  JournalWriter(uint32_t chunk_bytes, JournalPlace place,
                JournalPosition position);

  // Blocks that commits may still take; one more is kept for the `continue`.
  uint64_t room() const;
  uint64_t next_sequence() const { return position_.sequence; }
  const JournalPlace& place() const { return place_; }

  // Write `batch` as one commit.  REQUIRES: not empty, and it fits (a lone
  // ContinueRecord always does).
  Task<Status> Append(BlockDevice& device, const RecordBatch& batch);

 private:
  uint64_t block_count() const;
  uint32_t chunk_bytes_ = 0;
  JournalPlace place_;
  JournalPosition position_;
};

// Blocks in a journal of `chunk_count` chunks.
uint64_t JournalBlocks(uint64_t chunk_count, uint32_t chunk_bytes);

struct JournalEnd {
  JournalPosition position;            // after the last commit
  std::optional<ContinueRecord> next;  // the journal that follows
};

// Read the journal in `place` and hand every committed record of blocks from
// `from_sequence` on to `apply`, in order; an error of it ends the reading.
// Blocks from `until_sequence` on are not looked at.  What lies behind the end
// need not be readable.  kCorrupt: the commits end before `from_sequence`.
// `place` must stay until it is done.
Task<Result<JournalEnd>> ReplayJournal(
    BlockDevice& device, uint32_t chunk_bytes, const JournalPlace& place,
    uint64_t first_sequence, uint64_t from_sequence,
    std::function<Status(const Record&)> apply,
    uint64_t until_sequence = kNone);

// Make sure that no block of a commit that a power cut has torn comes back when
// the blocks that are written over it are torn in their turn: the first sector
// of each one behind `position` becomes zeroes.  Before another block is
// written after a crash.  Nothing is flushed; whether there is something to
// flush.  `place` must stay until it is done.
Task<Result<bool>> EraseTornTail(BlockDevice& device, uint32_t chunk_bytes,
                                 const JournalPlace& place,
                                 JournalPosition position);

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_JOURNAL_H_
