#include "blockmap/map/journal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "blockmap/base/coding.h"
#include "blockmap/base/crc32c.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = 65536;
constexpr uint64_t kFirstSequence = 40;

SetRecord Set(uint64_t chunk) {
  return {ImageChunk{chunk}, {Location::At(DiskChunk{chunk + 1}), 3, 1}};
}

// A journal in chunks 5 and 2.
class JournalTest : public testing::Test {
 protected:
  JournalTest() : device_(8 * kChunk) {
    place_.name = {ChainKind::kJournal, Uuid{std::byte{1}}, 9};
    place_.chunks = {DiskChunk{5}, DiskChunk{2}};
    writer_ = JournalWriter(kChunk, place_,
                            JournalStart(place_.name, kFirstSequence));
  }

  void Append(const std::vector<Record>& records) {
    RecordBatch batch;
    for (const Record& record : records) batch.Add(record);
    ASSERT_TRUE(RunInline(writer_.Append(device_, batch)));
  }
  // `count` set records; 123 fit into a block.
  void AppendSets(uint64_t first, uint64_t count) {
    std::vector<Record> records;
    for (uint64_t i = 0; i < count; ++i) records.push_back(Set(first + i));
    Append(records);
  }

  // The image chunks of the set records that are read back.
  Result<std::vector<uint64_t>> Read(uint64_t from = kFirstSequence) {
    std::vector<uint64_t> found;
    const auto apply = [&found](const Record& record) {
      found.push_back(std::get<SetRecord>(record).chunk.value);
      return OkStatus();
    };
    auto end = RunInline(
        ReplayJournal(device_, kChunk, place_, kFirstSequence, from, apply));
    if (!end) return end.error();
    end_ = *end;
    return found;
  }
  std::span<std::byte> Block(uint64_t number) {
    const uint64_t per_chunk = JournalBlocks(1, kChunk);
    const DiskChunk chunk = place_.chunks[number / per_chunk];
    return device_.bytes().subspan(
        chunk.value * kChunk + kBlockBytes + number % per_chunk * kBlockBytes,
        kBlockBytes);
  }
  // Give the first block these flags and the checksum that it then has.
  void SealFirstBlock(uint16_t flags) {
    const std::span<std::byte> block = Block(0);
    StoreLe<uint16_t>(block.subspan<6, 2>(), flags);
    const JournalPosition at = JournalStart(place_.name, kFirstSequence);
    StoreLe<uint32_t>(block.subspan<0, 4>(), Crc32c(block.subspan(4), at.seed));
  }

  MemoryDevice device_;
  JournalPlace place_;
  JournalWriter writer_;
  JournalEnd end_;
};

TEST(JournalRecordTest, EveryKindComesBack) {
  RecordBatch batch;
  batch.Add(Set(7));
  batch.Add(RelocationRecord{DiskChunk{1}, DiskChunk{2}});
  batch.Add(RelocationRecord{DiskChunk{3}, std::nullopt});
  batch.Add(PatchRecord{ImageChunk{4}, {5, {std::byte{6}, std::byte{7}}}});
  batch.Add(ContinueRecord{8, DiskChunk{9}});
  ASSERT_EQ(batch.block_count(), 1U);
  const auto back = DecodeRecords(batch.payloads()[0]);
  ASSERT_TRUE(back);
  ASSERT_EQ(back->size(), 5U);
  EXPECT_EQ(std::get<SetRecord>((*back)[0]).state, Set(7).state);
  EXPECT_EQ(std::get<RelocationRecord>((*back)[1]).now, DiskChunk{2});
  EXPECT_FALSE(std::get<RelocationRecord>((*back)[2]).now);
  const auto& patch = std::get<PatchRecord>((*back)[3]);
  EXPECT_EQ(patch.patch.offset, 5U);
  EXPECT_EQ(patch.patch.data.size(), 2U);
  EXPECT_EQ(std::get<ContinueRecord>((*back)[4]).chunk, DiskChunk{9});
}

TEST(JournalRecordTest, CutShortOrUnknownIsRefused) {
  RecordBatch batch;
  batch.Add(PatchRecord{ImageChunk{4}, {5, {std::byte{6}, std::byte{7}}}});
  const auto& whole = batch.payloads()[0];
  for (size_t size = 1; size < whole.size(); ++size) {
    EXPECT_EQ(DecodeRecords(std::span(whole).first(size)).error().code,
              ErrorCode::kCorrupt);
  }
  for (const int kind : {0, 5, 255}) {
    auto other = whole;
    other[0] = std::byte(kind);
    EXPECT_EQ(DecodeRecords(other).error().code, ErrorCode::kUnsupported);
  }
}

TEST(JournalRecordTest, LongestPatchFillsABlockExactly) {
  RecordBatch batch;
  batch.Add(
      PatchRecord{ImageChunk{4}, {0, std::vector<std::byte>(kPatchBytesMax)}});
  EXPECT_EQ(batch.payloads()[0].size(), kJournalPayloadBytes);
  batch.Add(Set(1));
  EXPECT_EQ(batch.block_count(), 2U);
}

TEST_F(JournalTest, CommitsComeBackInOrderOverSeveralChunks) {
  std::vector<uint64_t> expected;
  for (uint64_t i = 0; i < 26; ++i) {
    AppendSets(i * 1000, i == 9 ? 300 : 1);
    for (uint64_t n = 0; n < (i == 9 ? 300 : 1); ++n) {
      expected.push_back(i * 1000 + n);
    }
  }
  EXPECT_EQ(Read().value(), expected);
  EXPECT_EQ(end_.position.sequence, writer_.next_sequence());
}

TEST_F(JournalTest, RoomKeepsOneBlockForTheLastRecord) {
  const uint64_t blocks = JournalBlocks(2, kChunk);
  EXPECT_EQ(blocks, 30U);
  EXPECT_EQ(writer_.room(), blocks - 1);
  for (uint64_t i = 1; i < blocks; ++i) AppendSets(i, 1);
  EXPECT_EQ(writer_.room(), 0U);
  Append({ContinueRecord{10, DiskChunk{3}}});
  EXPECT_EQ(Read()->size(), blocks - 1);
  ASSERT_TRUE(end_.next);
  EXPECT_EQ(end_.next->epoch, 10U);
}

TEST_F(JournalTest, TruncatedAtEveryLengthItGivesWholeCommitsFromTheStart) {
  AppendSets(0, 2);
  AppendSets(10, 300);  // three blocks
  AppendSets(1000, 1);
  AppendSets(2000, 124);  // two blocks
  const std::vector<uint64_t> sizes_allowed = {0, 2, 302, 303, 427};
  const std::vector<std::byte> whole(device_.bytes().begin(),
                                     device_.bytes().end());
  size_t kept_before = 427;
  for (uint64_t lost = 64; lost <= uint64_t{7} * kBlockBytes; lost += 64) {
    std::copy(whole.begin(), whole.end(), device_.bytes().begin());
    const uint64_t kept = uint64_t{7} * kBlockBytes - lost;
    for (uint64_t block = kept / kBlockBytes; block < 7; ++block) {
      const uint64_t from =
          block == kept / kBlockBytes ? kept % kBlockBytes : 0;
      const auto bytes = Block(block).subspan(from);
      std::fill(bytes.begin(), bytes.end(), std::byte{0});
    }
    const auto found = Read();
    ASSERT_TRUE(found);
    EXPECT_TRUE(
        std::count(sizes_allowed.begin(), sizes_allowed.end(), found->size()));
    EXPECT_LE(found->size(), kept_before) << "records reappeared";
    kept_before = found->size();
  }
  EXPECT_EQ(kept_before, 0U);
}

TEST_F(JournalTest, AnyDamagedByteEndsTheReadingBeforeItsCommit) {
  AppendSets(0, 1);
  AppendSets(10, 124);
  AppendSets(200, 1);
  for (uint64_t block = 0; block < 4; ++block) {
    for (size_t at = 0; at < kBlockBytes; ++at) {
      Block(block)[at] ^= std::byte{0x40};
      const size_t expected = block == 0 ? 0 : block < 3 ? 1 : 125;
      ASSERT_EQ(Read()->size(), expected) << block << " " << at;
      Block(block)[at] ^= std::byte{0x40};
    }
  }
  EXPECT_EQ(Read()->size(), 126U);
}

TEST_F(JournalTest, BlocksOfAnotherEpochMigrationOrSequenceDoNotCount) {
  AppendSets(0, 1);
  const JournalPlace right = place_;
  place_.name.epoch = 10;
  EXPECT_EQ(Read()->size(), 0U);
  place_ = right;
  place_.name.migration_id = Uuid{std::byte{2}};
  EXPECT_EQ(Read()->size(), 0U);
  place_ = right;
  const auto apply = [](const Record&) { return OkStatus(); };
  const auto end = RunInline(
      ReplayJournal(device_, kChunk, place_, kFirstSequence + 1, 0, apply));
  EXPECT_EQ(end->position.block, 0U);
}

// The block is whole: who wrote it meant something by the flag.
TEST_F(JournalTest, UnknownFlagsAreRefused) {
  constexpr uint16_t kCommit = 1;
  AppendSets(0, 1);
  SealFirstBlock(kCommit);
  ASSERT_EQ(Read().value(), std::vector<uint64_t>{0});
  for (int bit = 1; bit < 16; ++bit) {
    SCOPED_TRACE("bit " + std::to_string(bit));
    for (const uint16_t known : {uint16_t{0}, kCommit}) {
      SealFirstBlock(static_cast<uint16_t>(1u << bit | known));
      const auto found = Read();
      ASSERT_FALSE(found);
      EXPECT_EQ(found.error().code, ErrorCode::kUnsupported);
    }
  }
}

TEST_F(JournalTest, BlocksBeforeTheCheckpointAreSkippedAndMustBeThere) {
  AppendSets(0, 1);
  AppendSets(10, 124);
  AppendSets(200, 1);
  EXPECT_EQ(Read(kFirstSequence + 3).value(), std::vector<uint64_t>{200});
  EXPECT_EQ(Read(kFirstSequence + 4)->size(), 0U);
  EXPECT_EQ(Read(kFirstSequence + 5).error().code, ErrorCode::kCorrupt);
  Block(2)[100] ^= std::byte{1};
  EXPECT_EQ(Read(kFirstSequence + 3).error().code, ErrorCode::kCorrupt);
}

TEST_F(JournalTest, WritingGoesOnBehindTheLastCommit) {
  AppendSets(0, 1);
  AppendSets(10, 200);
  Block(1)[5] ^= std::byte{1};  // the second commit is torn
  ASSERT_EQ(Read()->size(), 1U);
  writer_ = JournalWriter(kChunk, place_, end_.position);
  AppendSets(500, 1);
  EXPECT_EQ(Read().value(), (std::vector<uint64_t>{0, 500}));
}

TEST_F(JournalTest, ErrorOfTheReaderEndsTheReading) {
  AppendSets(0, 3);
  const auto apply = [](const Record&) -> Status {
    return Error{ErrorCode::kCorrupt, "no"};
  };
  EXPECT_EQ(RunInline(ReplayJournal(device_, kChunk, place_, kFirstSequence,
                                    kFirstSequence, apply))
                .error()
                .code,
            ErrorCode::kCorrupt);
}

// The second write over a torn block may bring just the sectors that the first
// one lacks.
TEST_F(JournalTest, TornCommitDoesNotBecomeWholeByTheNextOne) {
  AppendSets(0, 1);
  ASSERT_TRUE(Read());
  const JournalPosition end = end_.position;
  AppendSets(1, 1);
  std::vector<std::byte> first(Block(1).begin(), Block(1).end());
  const auto last_sector = Block(1).subspan(kBlockBytes - kSectorBytes);
  std::ranges::fill(last_sector, std::byte{0x77});  // it did not arrive
  ASSERT_EQ(*Read(), std::vector<uint64_t>{0});

  EXPECT_TRUE(*RunInline(EraseTornTail(device_, kChunk, place_, end)));
  // Of what comes next only the last sector does.
  std::ranges::copy(std::span(first).last(kSectorBytes), last_sector.begin());
  EXPECT_EQ(*Read(), std::vector<uint64_t>{0});
}

TEST_F(JournalTest, ErasingATornTailLeavesWhatIsCommitted) {
  AppendSets(0, 200);
  AppendSets(200, 200);
  const auto before = Read();
  ASSERT_TRUE(before);
  const std::vector<std::byte> bytes(device_.bytes().begin(),
                                     device_.bytes().end());
  EXPECT_FALSE(
      *RunInline(EraseTornTail(device_, kChunk, place_, end_.position)));
  EXPECT_TRUE(std::ranges::equal(bytes, device_.bytes()));
}

}  // namespace
}  // namespace bootstream
