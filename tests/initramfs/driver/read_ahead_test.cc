#include "initramfs/driver/read_ahead.h"

#include <gtest/gtest.h>

#include <set>

namespace bootstream {
namespace {

constexpr uint64_t kMax = 64;

TEST(ReadAheadTest, StreamIsKeptSuppliedFurtherAndFurtherAhead) {
  ReadAhead ahead(kMax);
  std::set<uint64_t> asked;
  uint64_t furthest = 0;
  for (uint64_t chunk = 100; chunk < 400; ++chunk) {
    if (chunk > 103) {
      EXPECT_TRUE(asked.contains(chunk)) << chunk;
    }
    const auto more = ahead.Note(chunk, chunk, true);
    if (!more) continue;
    for (uint64_t i = more->first; i < more->first + more->count; ++i) {
      EXPECT_TRUE(asked.insert(i).second) << i << " asked for twice";
    }
    const uint64_t reach = more->first + more->count - 1 - chunk;
    EXPECT_GE(reach, furthest);
    furthest = reach;
  }
  EXPECT_EQ(furthest, kMax);
}

TEST(ReadAheadTest, FarReadsAreNoStream) {
  ReadAhead ahead(kMax);
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_FALSE(ahead.Note(i * 1000 % 997, i * 1000 % 997, true)) << i;
  }
}

TEST(ReadAheadTest, WhatIsLocalBeginsNoStreamAndEndsNone) {
  ReadAhead ahead(kMax);
  for (uint64_t chunk = 0; chunk < 100; ++chunk) {
    EXPECT_FALSE(ahead.Note(chunk, chunk, false));
  }
  EXPECT_FALSE(ahead.Note(100, 100, true));
  EXPECT_FALSE(ahead.Note(101, 101, false));
  EXPECT_TRUE(ahead.Note(101, 101, true));
  bool more = false;
  for (uint64_t chunk = 102; chunk < 110; ++chunk) {
    more |= ahead.Note(chunk, chunk, false).has_value();
  }
  EXPECT_TRUE(more);
}

TEST(ReadAheadTest, ReadsInsideOneChunkAreNoStream) {
  ReadAhead ahead(kMax);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(ahead.Note(7, 7, true));
}

TEST(ReadAheadTest, RequestsThatOvertakeEachOtherAreOneStream) {
  ReadAhead ahead(kMax);
  std::set<uint64_t> asked;
  // Requests of eight chunks, each pair in the wrong order.
  for (uint64_t at = 0; at < 800; at += 16) {
    for (const uint64_t first : {at + 8, at}) {
      const auto more = ahead.Note(first, first + 7, true);
      for (uint64_t i = more ? more->first : 0;
           more && i < more->first + more->count; ++i) {
        EXPECT_TRUE(asked.insert(i).second) << i << " asked for twice";
      }
    }
  }
  for (uint64_t chunk = 200; chunk < 800; ++chunk) {
    EXPECT_TRUE(asked.contains(chunk)) << chunk;
  }
}

TEST(ReadAheadTest, StreamsSideBySideDoNotDisturbEachOther) {
  ReadAhead ahead(kMax);
  std::set<uint64_t> asked;
  for (uint64_t step = 0; step < 100; ++step) {
    for (uint64_t stream = 0; stream < ReadAhead::kStreams; ++stream) {
      const uint64_t chunk = stream * 10000 + step;
      const auto more = ahead.Note(chunk, chunk, true);
      if (step > 3) {
        EXPECT_TRUE(asked.contains(chunk)) << chunk;
      }
      for (uint64_t i = more ? more->first : 0;
           more && i < more->first + more->count; ++i) {
        asked.insert(i);
      }
    }
  }
}

TEST(ReadAheadTest, WithoutAWindowThereIsNone) {
  ReadAhead ahead(0);
  for (uint64_t chunk = 0; chunk < 100; ++chunk) {
    EXPECT_FALSE(ahead.Note(chunk, chunk, true));
  }
}

}  // namespace
}  // namespace bootstream
