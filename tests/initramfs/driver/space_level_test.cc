#include "initramfs/driver/space_level.h"

#include <gtest/gtest.h>

#include "initramfs/driver/space_report.h"

namespace bootstream {
namespace {

// A region of 1000 chunks for an image of 2000, of which 100 have a place.
SpaceFacts Half() {
  SpaceFacts facts;
  facts.chunk_bytes = 128 * 1024;
  facts.region = 1000;
  facts.free = 900;
  facts.absent = 1900;
  return facts;
}

TEST(SpaceLevelTest, WhereEverythingHasAPlaceNothingIsSaid) {
  SpaceFacts facts = Half();
  facts.free = facts.absent = 3;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kOk);
  facts.free = 2;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kCritical);
}

TEST(SpaceLevelTest, ItIsSaidLongBefore) {
  SpaceFacts facts = Half();
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kOk);
  facts.free = 250;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kOk);
  facts.free = 249;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kLow);
  facts.free = 99;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kCritical);
  facts.free = 0;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kFull);
}

TEST(SpaceLevelTest, WhatCanBeEvictedIsRoom) {
  SpaceFacts facts = Half();
  facts.free = 0;
  facts.clean = 300;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kOk);
  facts.clean = 120;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kLow);
}

TEST(SpaceLevelTest, OfAHugeRegionAQuarterIsNotLow) {
  SpaceFacts facts = Half();
  facts.region = 10'000'000;  // over a TiB
  facts.absent = 9'000'000;
  facts.free = 200'000;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kOk);
  facts.free = 100'000;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kLow);
  facts.free = 30'000;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kCritical);
}

TEST(SpaceLevelTest, AWriteThatIsStuckIsFullWhateverIsCounted) {
  SpaceFacts facts = Half();
  facts.waiting_writes = 1;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kOk);  // a moment
  facts.stuck = true;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kFull);
  facts.committed = true;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kFull);
}

TEST(SpaceLevelTest, AGuaranteedPlanIsFullOnlyWhereItsPromiseIsBroken) {
  SpaceFacts facts = Half();
  facts.guaranteed = true;
  facts.free = 1;  // the rest waits for a commit
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kOk);
  facts.free = 0;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kFull);
}

TEST(SpaceLevelTest, AfterCommitThereIsNoRegionToFill) {
  SpaceFacts facts = Half();
  facts.free = 0;
  facts.committed = true;
  EXPECT_EQ(SpaceLevelOf(facts), SpaceLevel::kOk);
}

TEST(SpaceLevelTest, TheSourceIsGivenUpByThatPolicyOnly) {
  SpaceFacts facts = Half();
  facts.stuck = true;
  EXPECT_FALSE(WantsSource(facts));
  facts.give_up_source = true;
  EXPECT_TRUE(WantsSource(facts));
  for (bool SpaceFacts::*not_now :
       {&SpaceFacts::guaranteed, &SpaceFacts::committed,
        &SpaceFacts::rollback_wished, &SpaceFacts::source_attached}) {
    SpaceFacts held = facts;
    held.*not_now = true;
    EXPECT_FALSE(WantsSource(held));
  }
  facts.stuck = false;
  EXPECT_FALSE(WantsSource(facts));
}

TEST(SpaceLevelTest, TheSentenceSaysWhatHelps) {
  SpaceFacts facts = Half();
  facts.free = 0;
  facts.stuck = true;
  facts.waiting_writes = 2;
  EXPECT_EQ(SpaceSentence(facts),
            "the region is full: 2 writes wait for room; 'streamctl commit' "
            "gives the old system up and makes the whole disk room, 'streamctl "
            "rollback' goes back to it");
  facts.give_up_source = facts.source_attached = true;
  EXPECT_NE(SpaceSentence(facts).find("streamctl source detach"),
            std::string::npos);
  facts.rollback_wished = true;
  EXPECT_NE(SpaceSentence(facts).find("nothing is given up"),
            std::string::npos);
}

TEST(SpaceWarningsTest, OnceForEachStepDown) {
  std::vector<std::string> said;
  SpaceWarnings warnings(
      [&said](const std::string& sentence) { said.push_back(sentence); });
  SpaceFacts facts = Half();
  const auto look = [&](uint64_t free) {
    facts.free = free;
    warnings.Look(facts);
    return said.size();
  };
  EXPECT_EQ(look(900), 0U);
  EXPECT_EQ(look(200), 1U);
  EXPECT_EQ(look(199), 1U);
  EXPECT_EQ(look(50), 2U);
  EXPECT_EQ(look(200), 2U);  // to and fro: once
  EXPECT_EQ(look(50), 2U);
  EXPECT_EQ(look(0), 3U);
  EXPECT_EQ(look(900), 3U);
  EXPECT_EQ(look(200), 4U);
}

}  // namespace
}  // namespace bootstream
