#include "blockmap/map/journal.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"
#include "blockmap/base/crc32c.h"
#include "blockmap/map/sealed.h"

namespace bootstream {
namespace {

constexpr size_t kCrcBytes = 4;
constexpr size_t kHeaderBytes = 16;
constexpr uint16_t kCommitFlag = 1;
static_assert(kHeaderBytes + kJournalPayloadBytes == kJournalBlockBytes);

uint64_t BlocksPerChunk(uint32_t chunk_bytes) {
  return ChainPayloadBytes(chunk_bytes) / kJournalBlockBytes;
}

// Fill `block`; the checksum that the next block is seeded with.
uint32_t EncodeBlock(std::span<std::byte> block,
                     std::span<const std::byte> payload, bool commit,
                     const JournalPosition& position) {
  std::fill(block.begin(), block.end(), std::byte{0});
  StoreLe<uint16_t>(block.subspan<4, 2>(),
                    static_cast<uint16_t>(payload.size()));
  StoreLe<uint16_t>(block.subspan<6, 2>(), commit ? kCommitFlag : 0);
  StoreLe<uint64_t>(block.subspan<8, 8>(), position.sequence);
  std::copy(payload.begin(), payload.end(), block.begin() + kHeaderBytes);
  const uint32_t crc = Crc32c(block.subspan(kCrcBytes), position.seed);
  StoreLe<uint32_t>(block.subspan<0, 4>(), crc);
  return crc;
}

struct Block {
  uint32_t crc = 0;
  uint16_t flags = 0;
  std::span<const std::byte> payload;
};

// nullopt: not valid at `position`.
std::optional<Block> DecodeBlock(std::span<const std::byte> bytes,
                                 const JournalPosition& position) {
  Block block;
  block.crc = LoadLe<uint32_t>(bytes.subspan<0, 4>());
  const auto payload_bytes = LoadLe<uint16_t>(bytes.subspan<4, 2>());
  block.flags = LoadLe<uint16_t>(bytes.subspan<6, 2>());
  const auto sequence = LoadLe<uint64_t>(bytes.subspan<8, 8>());
  if (block.crc != Crc32c(bytes.subspan(kCrcBytes), position.seed) ||
      sequence != position.sequence || payload_bytes > kJournalPayloadBytes) {
    return std::nullopt;
  }
  block.payload = bytes.subspan(kHeaderBytes, payload_bytes);
  return block;
}

void Advance(JournalPosition& position, uint32_t crc) {
  ++position.block;
  ++position.sequence;
  position.seed = crc;
}

Error JournalError(ErrorCode code, uint64_t sequence, std::string_view why) {
  return Error{code, "journal block " + std::to_string(sequence) + ": " +
                         std::string(why)};
}

// Takes blocks in their order and applies what is committed.
class Replay {
 public:
  Replay(JournalPosition start, uint64_t from_sequence,
         std::function<Status(const Record&)> apply)
      : at_(start), from_sequence_(from_sequence), apply_(std::move(apply)) {
    end_.position = start;
  }

  // False: reading has come to its end.
  Result<bool> Take(std::span<const std::byte> bytes) {
    const auto block = DecodeBlock(bytes, at_);
    if (!block) return false;
    if ((block->flags & ~kCommitFlag) != 0) {
      return JournalError(ErrorCode::kUnsupported, at_.sequence,
                          "unknown flags");
    }
    auto records = DecodeRecords(block->payload);
    if (!records) {
      return JournalError(records.error().code, at_.sequence,
                          records.error().message);
    }
    if (at_.sequence >= from_sequence_) {
      std::move(records->begin(), records->end(),
                std::back_inserter(uncommitted_));
    } else if (!records->empty()) {
      // Already in the checkpoint; a journal's end is still an end.
      KeepContinue(records->back());
    }
    Advance(at_, block->crc);
    if ((block->flags & kCommitFlag) != 0) {
      if (Status s = Commit(); !s) return s.error();
    }
    return !end_.next.has_value();
  }

  uint64_t sequence() const { return at_.sequence; }

  Result<JournalEnd> Finish() const {
    if (end_.position.sequence < from_sequence_) {
      return JournalError(ErrorCode::kCorrupt, end_.position.sequence,
                          "damaged, though the superblock vouches for it");
    }
    return end_;
  }

 private:
  void KeepContinue(const Record& record) {
    if (const auto* next = std::get_if<ContinueRecord>(&record)) {
      end_.next = *next;
    }
  }

  Status Commit() {
    for (const Record& record : uncommitted_) {
      if (end_.next) {
        return JournalError(ErrorCode::kCorrupt, at_.sequence - 1,
                            "a record follows the journal's last");
      }
      KeepContinue(record);
      if (end_.next) continue;
      if (Status s = apply_(record); !s) {
        return JournalError(s.error().code, at_.sequence - 1,
                            s.error().message);
      }
    }
    uncommitted_.clear();
    end_.position = at_;
    return OkStatus();
  }

  JournalPosition at_;
  uint64_t from_sequence_;
  std::function<Status(const Record&)> apply_;
  std::vector<Record> uncommitted_;
  JournalEnd end_;
};

}  // namespace

uint64_t JournalBlocks(uint64_t chunk_count, uint32_t chunk_bytes) {
  return chunk_count * BlocksPerChunk(chunk_bytes);
}

JournalPosition JournalStart(const ChainName& name, uint64_t first_sequence) {
  std::array<std::byte, sizeof(uint64_t)> epoch;
  StoreLe<uint64_t>(epoch, name.epoch);
  JournalPosition start;
  start.sequence = first_sequence;
  start.seed = Crc32c(epoch, Crc32c(name.migration_id));
  return start;
}

JournalWriter::JournalWriter(uint32_t chunk_bytes, JournalPlace place,
                             JournalPosition position)
    : chunk_bytes_(chunk_bytes),
      place_(std::move(place)),
      position_(position) {}

namespace {

uint64_t BlockOffset(uint32_t chunk_bytes, const JournalPlace& place,
                     uint64_t block) {
  const uint64_t per_chunk = BlocksPerChunk(chunk_bytes);
  return place.chunks[block / per_chunk].value * chunk_bytes +
         kChainHeaderBytes + block % per_chunk * kJournalBlockBytes;
}

}  // namespace

uint64_t JournalWriter::block_count() const {
  return JournalBlocks(place_.chunks.size(), chunk_bytes_);
}

uint64_t JournalWriter::room() const {
  const uint64_t left = block_count() - position_.block;
  return left == 0 ? 0 : left - 1;
}

Task<Status> JournalWriter::Append(BlockDevice& device,
                                   const RecordBatch& batch) {
  const auto& payloads = batch.payloads();
  assert(!payloads.empty());
  assert(position_.block + payloads.size() <= block_count());
  AlignedBuffer buffer(payloads.size() * kJournalBlockBytes);
  const uint64_t first = position_.block;
  for (size_t i = 0; i < payloads.size(); ++i) {
    const auto block =
        buffer.span().subspan(i * kJournalBlockBytes, kJournalBlockBytes);
    Advance(position_, EncodeBlock(block, payloads[i], i + 1 == payloads.size(),
                                   position_));
  }
  const uint64_t per_chunk = BlocksPerChunk(chunk_bytes_);
  for (uint64_t done = 0; done < payloads.size();) {
    const uint64_t at = first + done;
    const uint64_t count =
        std::min(per_chunk - at % per_chunk, payloads.size() - done);
    const Status written = co_await device.Write(
        BlockOffset(chunk_bytes_, place_, at),
        buffer.span().subspan(done * kJournalBlockBytes,
                              count * kJournalBlockBytes));
    if (!written) co_return written.error();
    done += count;
  }
  co_return OkStatus();
}

Task<Result<JournalEnd>> ReplayJournal(
    BlockDevice& device, uint32_t chunk_bytes, const JournalPlace& place,
    uint64_t first_sequence, uint64_t from_sequence,
    std::function<Status(const Record&)> apply, uint64_t until_sequence) {
  Replay replay(JournalStart(place.name, first_sequence), from_sequence,
                std::move(apply));
  AlignedBuffer buffer(ChainPayloadBytes(chunk_bytes));
  bool more = true;
  for (size_t i = 0; more && i < place.chunks.size(); ++i) {
    if (replay.sequence() >= until_sequence) break;
    const uint64_t offset =
        place.chunks[i].value * chunk_bytes + kChainHeaderBytes;
    const Status whole = co_await device.Read(offset, buffer.span());
    for (size_t at = 0; more && at < buffer.size(); at += kJournalBlockBytes) {
      if (replay.sequence() >= until_sequence) break;
      const auto block = buffer.span().subspan(at, kJournalBlockBytes);
      Status read = whole;
      if (!read) read = co_await device.Read(offset + at, block);
      if (!read) co_return read.error();
      const Result<bool> taken = replay.Take(block);
      if (!taken) co_return taken.error();
      more = *taken;
    }
  }
  co_return replay.Finish();
}

Task<Result<bool>> EraseTornTail(BlockDevice& device, uint32_t chunk_bytes,
                                 const JournalPlace& place,
                                 JournalPosition position) {
  AlignedBuffer sector(kSectorBytes);
  const AlignedBuffer zeroes(kSectorBytes);
  const uint64_t count = JournalBlocks(place.chunks.size(), chunk_bytes);
  bool erased = false;
  for (; position.block < count; Advance(position, 0)) {
    const uint64_t offset = BlockOffset(chunk_bytes, place, position.block);
    const Status read = co_await device.Read(offset, sector.span());
    const auto sequence = LoadLe<uint64_t>(sector.span().subspan<8, 8>());
    if (read && sequence != position.sequence) continue;
    const Status written = co_await device.Write(offset, zeroes.span());
    if (!written) co_return written.error();
    erased = true;
  }
  co_return erased;
}

}  // namespace bootstream
