// Journal records, and a journal made of them: the input is a run of payloads,
// each with a word of length and flags before it; checksums and sequences are
// put in.

#include "blockmap/map/journal.h"

#include <algorithm>

#include "blockmap/base/coding.h"
#include "blockmap/base/crc32c.h"
#include "blockmap/map/checkpoint.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/map_fixture.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = kChunkBytesMin;
constexpr uint64_t kBlocks = kChunk / kBlockBytes - 1;
const MapLimits kLimits{Grid{kChunk, 300 * kChunk + kBlockBytes},
                        Grid{kChunk, 500 * kChunk}};

ChainName Name() {
  ChainName name;
  name.kind = ChainKind::kJournal;
  name.migration_id.fill(std::byte{7});
  name.epoch = 3;
  return name;
}

// Payload after payload until the input or the chunk ends.
void LayBlocks(ByteReader in, std::span<std::byte> chunk) {
  JournalPosition at = JournalStart(Name(), 1);
  for (; at.block < kBlocks && in.remaining() > 0; ++at.block, ++at.sequence) {
    const uint16_t word = in.U16();
    const bool commit = (word & 0x8000) != 0;
    const bool damaged = (word & 0x4000) != 0;
    const auto payload = in.Bytes(std::min<size_t>(
        {word & 0xfffu, kJournalPayloadBytes, in.remaining()}));
    const auto block = chunk.subspan((at.block + 1) * kBlockBytes, kBlockBytes);
    StoreLe<uint16_t>(block.subspan<4, 2>(),
                      static_cast<uint16_t>(payload.size()));
    StoreLe<uint16_t>(block.subspan<6, 2>(), commit ? 1 : 0);
    StoreLe<uint64_t>(block.subspan<8, 8>(), at.sequence);
    std::ranges::copy(payload, block.begin() + 16);
    at.seed = Crc32c(block.subspan(4), at.seed);
    StoreLe<uint32_t>(block.subspan<0, 4>(), damaged ? ~at.seed : at.seed);
  }
}

void TryRecords(std::span<const std::byte> payload) {
  const auto records = DecodeRecords(
      payload.first(std::min<size_t>(payload.size(), kJournalPayloadBytes)));
  if (!records) return;
  RecordBatch batch;
  for (const Record& record : *records) batch.Add(record);
  size_t count = 0;
  for (const auto& part : batch.payloads()) {
    const auto again = DecodeRecords(part);
    Require(again.has_value(), "what was written can be read");
    count += again->size();
  }
  Require(count == records->size(), "as many records as were written");
}

// The same records, appended by the writer, give the same map.
void WriteAgain(const std::vector<Record>& records, const BlockMap& expected) {
  MemoryDevice device(2 * kChunk);
  const JournalPlace place{Name(), {DiskChunk{1}}};
  RecordBatch batch;
  for (const Record& record : records) batch.Add(record);
  if (batch.empty() || batch.block_count() > kBlocks) return;
  JournalWriter writer(kChunk, place, JournalStart(Name(), 1));
  Require(RunInline(writer.Append(device, batch)).has_value(), "it fits");
  BlockMap map;
  const auto end = RunInline(ReplayJournal(
      device, kChunk, place, 1, 1,
      [&](const Record& record) { return ApplyRecord(record, kLimits, map); }));
  Require(end && end->position.block == batch.block_count(),
          "a journal is read to its end");
  Require(Describe(map) == Describe(expected),
          "the same records, the same map");
}

void TryCheckpoint(const BlockMap& map) {
  const std::vector<DiskExtent> region = {{40, 100}, {150, 20}};
  const auto bytes = EncodeCheckpoint(map, region);
  const auto again = DecodeCheckpoint(bytes, kLimits);
  Require(again && Describe(again->map) == Describe(map),
          "a checkpoint holds the whole map");
}

}  // namespace

FUZZ_TARGET(journal) {
  TryRecords(input);
  MemoryDevice device(2 * kChunk);
  LayBlocks(ByteReader(input), device.bytes().subspan(kChunk));
  const JournalPlace place{Name(), {DiskChunk{1}}};
  BlockMap map;
  std::vector<Record> applied;
  const auto end = RunInline(
      ReplayJournal(device, kChunk, place, 1, 1, [&](const Record& record) {
        Status status = ApplyRecord(record, kLimits, map);
        if (status) applied.push_back(record);
        return status;
      }));
  if (!end) return;
  Require(end->position.block <= kBlocks, "a journal ends in its chunk");
  WriteAgain(applied, map);
  TryCheckpoint(map);
}

}  // namespace bootstream
