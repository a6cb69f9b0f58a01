#include "initramfs/driver/first_reads.h"

#include <gtest/gtest.h>

#include <tuple>

namespace bootstream {
namespace {

using std::chrono::milliseconds;
using Facts = std::tuple<uint64_t, uint32_t, uint32_t>;  // first, count, ms

std::vector<Facts> RunsOf(const FirstReads& reads) {
  std::vector<Facts> out;
  for (const PrefetchEntry& run : reads.runs()) {
    out.emplace_back(run.first, run.count, run.time_ms);
  }
  return out;
}

TEST(FirstReadsTest, EachChunkCountsOnceInTheOrderOfItsFirstRead) {
  FirstReads reads(100, milliseconds(1000));
  reads.Add(50, 52, milliseconds(1007));
  reads.Add(51, 53, milliseconds(1007));
  reads.Add(49, 54, milliseconds(1010));
  EXPECT_EQ(RunsOf(reads),
            (std::vector<Facts>{{50, 4, 7}, {49, 1, 10}, {54, 1, 10}}));
}

TEST(FirstReadsTest, KnowsWhatItHas) {
  FirstReads reads(100, milliseconds(0));
  reads.Add(10, 12, milliseconds(0));
  EXPECT_TRUE(reads.Knows(10, 12));
  EXPECT_TRUE(reads.Knows(11, 11));
  EXPECT_FALSE(reads.Knows(9, 10));
  EXPECT_FALSE(reads.Knows(12, 13));
}

TEST(FirstReadsTest, IsBounded) {
  FirstReads reads(4 * FirstReads::kRunsMax, milliseconds(0));
  for (uint64_t i = 0; i < FirstReads::kRunsMax; ++i) {
    EXPECT_FALSE(reads.full());
    reads.Add(2 * i, 2 * i, milliseconds(0));
  }
  EXPECT_TRUE(reads.full());
  EXPECT_TRUE(reads.Knows(1, 1));
  reads.Add(1, 1, milliseconds(0));
  EXPECT_EQ(reads.runs().size(), FirstReads::kRunsMax);
}

}  // namespace
}  // namespace bootstream
