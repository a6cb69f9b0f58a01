#include "blockmap/map/kept_changes.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <variant>

namespace bootstream {
namespace {

class KeptChangesTest : public testing::Test {
 protected:
  KeptChangesTest() : memory_(::memfd_create("kept", MFD_CLOEXEC)) {
    id_.fill(std::byte{1});
  }
  // As the next process does.
  std::unique_ptr<KeptChanges> Open() {
    auto kept = KeptChanges::Open(UniqueFd(::dup(memory_.get())), id_);
    EXPECT_TRUE(kept) << kept.error().message;
    return std::move(*kept);
  }
  static void Add(KeptChanges& kept, uint64_t chunk) {
    const SetRecord record{ImageChunk{chunk}, {Location::Zero(), 0, 0}};
    EXPECT_TRUE(kept.Add(record));
  }
  // The chunks of what a next process would repeat.
  std::vector<uint64_t> Recovered(uint64_t next_sequence) {
    const auto records = Open()->Recover(next_sequence);
    EXPECT_TRUE(records) << records.error().message;
    std::vector<uint64_t> chunks;
    for (const Record& record : *records) {
      chunks.push_back(std::get<SetRecord>(record).chunk.value);
    }
    return chunks;
  }

  UniqueFd memory_;
  Uuid id_{};
};

using Chunks = std::vector<uint64_t>;

TEST_F(KeptChangesTest, ChangesOfTwoBatchesAreRecoveredInTheirOrder) {
  for (uint64_t round = 0; round < 2; ++round) {
    SCOPED_TRACE(round);
    const auto kept = Open();
    Add(*kept, 1);
    Add(*kept, 2);
    kept->BeginBatch();
    Add(*kept, 3);
    kept->Writing(5);
    EXPECT_EQ(Recovered(5), (Chunks{1, 2, 3}));  // the block never got there
    kept->Durable();
    // The logs have changed places.
    kept->BeginBatch();
    Add(*kept, 4);
    EXPECT_EQ(Recovered(6), (Chunks{3, 4}));
    kept->Writing(6);
    kept->Durable();
    kept->BeginBatch();
    kept->Writing(7);
    kept->Durable();
    EXPECT_EQ(Recovered(8), Chunks{});
  }
}

TEST_F(KeptChangesTest, WhatTheJournalHasIsNotRecovered) {
  const auto kept = Open();
  Add(*kept, 1);
  kept->BeginBatch();
  Add(*kept, 2);
  kept->Writing(5);
  EXPECT_EQ(Recovered(6), Chunks{2});
}

TEST_F(KeptChangesTest, CommitForgetsOnlyItsOwnChanges) {
  const auto kept = Open();
  Add(*kept, 1);
  kept->BeginBatch();
  Add(*kept, 2);
  kept->Writing(5);
  kept->Durable();
  EXPECT_EQ(Recovered(6), Chunks{2});
}

TEST_F(KeptChangesTest, MemoryOfAnotherMigrationIsRefused) {
  Open();
  Uuid other{};
  const auto kept = KeptChanges::Open(UniqueFd(::dup(memory_.get())), other);
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace bootstream
