// What the network needs to come back stays on the disk, however full the
// region is, and leaves room for everybody else.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "initramfs/driver/recovery_set.h"
#include "tests/support/engine_rig.h"

namespace bootstream {
namespace {

using std::chrono::seconds;

constexpr uint64_t kChunk = EngineRig::kChunk;
constexpr uint64_t kImageChunks = EngineRig::kImageChunks;
const std::vector<DiskExtent> kTight{{64, 30}};

TEST(RecoverySetTest, HasABound) {
  RecoverySet set;
  set.Open(2);
  for (const uint64_t chunk : {7, 3, 7, 9}) set.Add(ImageChunk{chunk});
  EXPECT_EQ(set.Sorted(), (std::vector<ImageChunk>{{3}, {7}}));
  EXPECT_FALSE(set.is_whole());
  EXPECT_FALSE(set.Contains(ImageChunk{9}));
  set.Open(RecoverySet::kChunksMax + 1);
  EXPECT_EQ(set.chunks_max(), RecoverySet::kChunksMax);
}

TEST(RecoverySetTest, EndsWithItsLastWindow) {
  RecoverySet set;
  set.Open(5);
  set.Open(5);
  set.Close();
  EXPECT_TRUE(set.is_open());
  set.Close();
  EXPECT_FALSE(set.is_open());
}

TEST(RecoverySetTest, OutlivesItsDriver) {
  RecoverySet set;
  set.Open(2);
  for (const uint64_t chunk : {7, 3, 9}) set.Add(ImageChunk{chunk});
  const auto bytes = set.Encode();
  const auto again = RecoverySet::Decode(bytes, 8);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->Sorted(), set.Sorted());
  EXPECT_EQ(again->chunks_max(), 2U);
  EXPECT_FALSE(again->is_whole());
  EXPECT_FALSE(again->is_open());
  EXPECT_FALSE(RecoverySet::Decode(bytes, 7));
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto part =
        RecoverySet::Decode(std::span(bytes).first(size), kImageChunks);
    EXPECT_TRUE(!part || part->count() < 2);
  }
}

class RecoveryTest : public testing::Test {
 protected:
  explicit RecoveryTest(std::vector<DiskExtent> region = kTight)
      : rig_(std::move(region)) {}

  void Open() { rig_.engine().OpenRecoverySet(); }
  void Close() { rig_.engine().CloseRecoverySet(); }
  void ReadChunk(uint64_t chunk) { rig_.Read(chunk * kChunk, kChunk); }
  // Nothing of it is as it was afterwards but what stays.
  void ReadAll(int times) {
    for (int i = 0; i < times; ++i) {
      EXPECT_EQ(rig_.Read(0, kImageChunks * kChunk), rig_.image());
    }
  }
  bool IsLocal(uint64_t chunk) {
    return !rig_.engine().IsMissing(ImageChunk{chunk});
  }
  const RecoverySet& set() { return rig_.engine().recovery_set(); }
  uint64_t evicted() { return rig_.engine().statistics().evicted_chunks; }

  EngineRig rig_;
};

TEST_F(RecoveryTest, WhatIsReadMeanwhileIsNotEvicted) {
  Open();
  for (const uint64_t chunk : {2, 13, 30}) ReadChunk(chunk);
  Close();
  ReadAll(3);
  EXPECT_GT(evicted(), 20U);
  for (const uint64_t chunk : {2, 13, 30}) EXPECT_TRUE(IsLocal(chunk)) << chunk;
  EXPECT_EQ(set().count(), 3U);  // no more than these
  EXPECT_TRUE(set().is_whole());
  // A write that wants a place does not get theirs.
  for (uint64_t chunk = 14; chunk < 18; ++chunk) {
    rig_.Write(chunk * kChunk, 4096, std::byte{7});
  }
  for (const uint64_t chunk : {2, 13, 30}) EXPECT_TRUE(IsLocal(chunk)) << chunk;
}

// The kernel has it in memory, and does not read it again.
TEST_F(RecoveryTest, WhatWasReadBeforeCountsToo) {
  ReadChunk(2);
  Open();
  ReadChunk(13);
  Close();
  ReadAll(3);
  EXPECT_TRUE(IsLocal(2));
  EXPECT_TRUE(IsLocal(13));
}

TEST_F(RecoveryTest, AnotherSessionBeginsAnew) {
  Open();
  ReadChunk(2);
  Close();
  ASSERT_TRUE(RunInline(rig_.engine().Flush()));
  rig_.Restart();
  EXPECT_EQ(set().count(), 0U);
  // A worker that follows one that died has what that had.
  RecoverySet left;
  left.Open(5);
  left.Add(ImageChunk{2});
  left.Close();
  rig_.engine().RestoreRecoverySet(left);
  ReadAll(3);
  EXPECT_TRUE(IsLocal(2));
}

TEST_F(RecoveryTest, WhatStaysAnywayDoesNotCount) {
  rig_.Write(20 * kChunk, kChunk, std::byte{7});
  Open();
  for (const uint64_t chunk : {0, 4, 8, 20}) ReadChunk(chunk);
  Close();
  EXPECT_EQ(set().count(), 0U);
}

// However much is read, misses are stored and writes go on.
TEST_F(RecoveryTest, HalfOfTheRoomIsLeftForOthers) {
  Open();
  const uint64_t most = set().chunks_max();
  EXPECT_GT(most, 3U);
  EXPECT_LT(most, kImageChunks / 2);
  ReadAll(1);
  Close();
  EXPECT_EQ(set().count(), most);
  EXPECT_FALSE(set().is_whole());
  ReadAll(1);
  for (uint64_t chunk = 12; chunk < kImageChunks; ++chunk) {
    ReadChunk(chunk);
    EXPECT_TRUE(IsLocal(chunk)) << chunk;
  }
  const uint64_t before = rig_.engine().room().waited();
  for (uint64_t zero = 8; zero < 12; ++zero) {
    rig_.Write(zero * kChunk, 4096, std::byte{7});
  }
  EXPECT_EQ(rig_.engine().room().waited(), before);
  for (const ImageChunk chunk : set().Sorted()) {
    EXPECT_FALSE(rig_.engine().IsMissing(chunk)) << chunk.value;
  }
}

// The boot loader reads it at the next start, when nothing is in the set.
TEST_F(RecoveryTest, WhatComesHomeToStayStaysWithoutTheSet) {
  Open();
  ReadChunk(29);
  Close();
  ASSERT_TRUE(RunInline(rig_.engine().BringHome(ImageChunk{29})));
  const uint64_t all = rig_.engine().manifest().grid().full_mask(29);
  EXPECT_TRUE(rig_.engine().IsHomeToStay(ImageChunk{29}, all));
  ASSERT_TRUE(RunInline(rig_.engine().Flush()));
  rig_.Restart();
  EXPECT_TRUE(rig_.engine().IsHomeToStay(ImageChunk{29}, all));
}

void SayComplete(EngineRig& rig) {
  rig.Read(0, kImageChunks * kChunk);
  const auto complete = [](Superblock& block) {
    block.phase = Phase::kComplete;
  };
  ASSERT_TRUE(RunInline(rig.store().UpdateSuperblock(complete)));
}

TEST(RecoveryNeedTest, NoneWhereNothingWillEverBeEvicted) {
  EngineRig rig;
  EXPECT_TRUE(rig.engine().NeedsRecoverySet());
  SayComplete(rig);
  EXPECT_FALSE(rig.engine().NeedsRecoverySet());
}

// All that the image has is there, and what is zero in it may be written yet.
TEST(RecoveryNeedTest, CompleteIsNotEnoughInASmallRegion) {
  std::unique_ptr<EngineRig> rig;
  for (uint64_t size = 24; !rig && size < 60; ++size) {
    rig = std::make_unique<EngineRig>(std::vector<DiskExtent>{{64, size}});
    rig->Read(0, kImageChunks * kChunk);
    if (rig->engine().statistics().evicted_chunks != 0) rig.reset();
  }
  ASSERT_NE(rig, nullptr);
  SayComplete(*rig);
  EXPECT_TRUE(rig->engine().NeedsRecoverySet());
}

}  // namespace
}  // namespace bootstream
