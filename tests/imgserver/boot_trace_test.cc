#include "imgserver/boot_trace.h"

#include <gtest/gtest.h>

#include "blockmap/map/superblock.h"

namespace bootstream {
namespace {

constexpr uint64_t kDisk = 64 << 20;

class BootTraceTest : public testing::Test {
 protected:
  BootTraceTest() {
    const auto candidates = AnchorCandidates(kDisk);
    a_ = {0, candidates[0], kAnchorBytes};
    b_ = {0, candidates[1], kAnchorBytes};
  }
  static BootTrace Trace(std::vector<TraceRead> reads) {
    return {kDisk, "uefi", std::move(reads)};
  }
  TraceRead a_;
  TraceRead b_;
  const TraceRead other_{5, 4 << 20, 131072};
};

TEST_F(BootTraceTest, TextGoesBothWays) {
  const BootTrace trace = Trace({{0, 0, 512}, {17, 4096, 65536}});
  const auto parsed = ParseTrace(FormatTrace(trace));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(*parsed, trace);
}

TEST_F(BootTraceTest, OtherTextIsRefusedWithItsLine) {
  const std::string good = FormatTrace(Trace({{0, 0, 512}}));
  for (const char* bad :
       {"", "{}", "[]\n", "nonsense\n",
        R"({"format":"bootstream-trace 2","disk_bytes":1,"firmware":"uefi"})",
        R"({"format":"bootstream-trace 1","disk_bytes":-1,"firmware":"uefi"})",
        R"({"format":7,"disk_bytes":1,"firmware":"uefi"})",
        R"({"format":"bootstream-trace 1","disk_bytes":1})"}) {
    EXPECT_FALSE(ParseTrace(bad)) << bad;
  }
  for (const std::string bad :
       {"x", "{\"ms\":1}", "{\"ms\":1,\"offset\":0,\"size\":0}",
        "{\"ms\":1,\"offset\":0,\"size\":67108865}",
        "{\"ms\":1,\"offset\":67108864,\"size\":1}",
        "{\"ms\":1,\"offset\":-1,\"size\":1}",
        "{\"ms\":1,\"offset\":18446744073709551615,\"size\":2}"}) {
    const auto parsed = ParseTrace(good + bad + "\n");
    ASSERT_FALSE(parsed) << bad;
    EXPECT_NE(parsed.error().message.find("line 3"), std::string::npos);
  }
}

TEST_F(BootTraceTest, TakeOverIsTheFirstOfABA) {
  EXPECT_EQ(FindTakeOver(Trace({other_, a_, b_, a_, other_})), 1U);
  EXPECT_EQ(FindTakeOver(Trace({other_, a_, other_, b_, other_, a_})), 1U);
}

TEST_F(BootTraceTest, RepeatedReadsDoNotMatter) {
  EXPECT_EQ(FindTakeOver(Trace({a_, b_, b_, a_})), 0U);
  EXPECT_EQ(FindTakeOver(Trace({b_, a_, a_, b_, a_})), 1U);
}

TEST_F(BootTraceTest, OtherOrdersAreNoTakeOver) {
  EXPECT_FALSE(FindTakeOver(Trace({})));
  EXPECT_FALSE(FindTakeOver(Trace({a_, b_})));
  EXPECT_FALSE(FindTakeOver(Trace({b_, a_, b_})));
  EXPECT_FALSE(FindTakeOver(Trace({a_, a_, b_})));
}

TEST_F(BootTraceTest, LargerReadsOfTheSamePlaceAreNoTakeOver) {
  TraceRead wide = a_;
  wide.size = 65536;
  EXPECT_FALSE(FindTakeOver(Trace({wide, b_, wide})));
}

}  // namespace
}  // namespace bootstream
