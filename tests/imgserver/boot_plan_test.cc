#include "imgserver/boot_plan.h"

#include <gtest/gtest.h>

#include "blockmap/map/superblock.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = 65536;
constexpr Grid kGrid{kChunk, 1024 * kChunk};

ImageLayout Layout() {
  ImageLayout layout;
  layout.table.table_extents = {{1023 * kChunk, 512}, {512, 512}, {0, 512}};
  layout.pinned = {{64 * kChunk, 32 * kChunk}, {96 * kChunk, 3 * kChunk}};
  layout.boot = {{70 * kChunk + 100, 1}, {64 * kChunk, 2 * kChunk}};
  return layout;
}

BootTrace Trace() {
  const auto [a, b] = AnchorCandidates(kGrid.size_bytes);
  return {kGrid.size_bytes,
          "uefi",
          {{10, 0, 512},
           {20, 200 * kChunk + 512, kChunk},  // two chunks
           {30, 65 * kChunk, 4096},
           {100, a, 4096},
           {100, b, 4096},
           {101, a, 4096},
           {150, 200 * kChunk, 4096},  // in the boot set
           {160, 300 * kChunk, 2 * kChunk},
           {170, 301 * kChunk, 2 * kChunk}}};
}

std::vector<uint64_t> Chunks(const std::vector<ChunkExtent>& extents) {
  std::vector<uint64_t> out;
  for (const auto& e : extents) {
    for (uint64_t i = 0; i < e.count; ++i) out.push_back(e.first + i);
  }
  return out;
}

TEST(BootPlanTest, TracedReadsComeFirstThenTablesThenTheRest) {
  const auto plan = PlanBoot(kGrid, Layout(), Trace());
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(Chunks(plan->boot_set),
            (std::vector<uint64_t>{0, 200, 201, 65, 1023, 64, 70}));
  EXPECT_EQ(plan->boot_chunk_count, 7U);
}

TEST(BootPlanTest, PinnedRangesAreWholeChunksJoined) {
  const auto plan = PlanBoot(kGrid, Layout(), std::nullopt);
  ASSERT_EQ(plan->pinned.size(), 1U);
  EXPECT_EQ(plan->pinned[0].first, 64U);
  EXPECT_EQ(plan->pinned[0].count, 35U);
}

TEST(BootPlanTest, APartitionThatTheKernelIsLoadedFromIsPinned) {
  ImageLayout layout = Layout();
  Partition probed;
  probed.extent = {200 * kChunk, 50 * kChunk};
  Partition root;
  root.extent = {400 * kChunk, 100 * kChunk};
  layout.table.partitions = {probed, root};
  BootTrace trace = Trace();
  trace.reads.insert(trace.reads.begin(),
                     {{1, 410 * kChunk, 80 * kChunk},
                      {2, 430 * kChunk, 48 * kChunk},
                      {3, 210 * kChunk, 60 * kChunk}});
  const auto plan = PlanBoot(kGrid, layout, trace);
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_EQ(plan->pinned.size(), 2U);
  EXPECT_EQ(plan->pinned[1].first, 400U);
  EXPECT_EQ(plan->pinned[1].count, 100U);
  // After the take-over everybody may.
  BootTrace later = Trace();
  later.reads.push_back({900, 410 * kChunk, 200 * kChunk});
  EXPECT_EQ(PlanBoot(kGrid, layout, later)->pinned.size(), 1U);
}

TEST(BootPlanTest, BootInTheRootFileSystemMustBeWatched) {
  ImageLayout layout = Layout();
  layout.boot_in_root = true;
  const auto plan = PlanBoot(kGrid, layout, std::nullopt);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
  EXPECT_TRUE(PlanBoot(kGrid, layout, Trace()));
}

TEST(BootPlanTest, PrefetchIsWhatIsReadFirstAfterTakeOver) {
  const auto plan = PlanBoot(kGrid, Layout(), Trace());
  ASSERT_GE(plan->prefetch.size(), 2U);
  const auto& last = plan->prefetch.back();
  const auto& before = plan->prefetch[plan->prefetch.size() - 2];
  EXPECT_EQ(before.first, 300U);
  EXPECT_EQ(before.count, 2U);
  EXPECT_EQ(before.time_ms, 60U);
  EXPECT_EQ(last.first, 302U);
  EXPECT_EQ(last.count, 1U);
  EXPECT_EQ(last.time_ms, 70U);
  for (const auto& entry : plan->prefetch) EXPECT_NE(entry.first, 200U);
}

TEST(BootPlanTest, WhatMachinesHaveReadComesBehindTheWatchedBoot) {
  const BootTrace machine{
      kGrid.size_bytes,
      kFromStreamed,
      {{5, 300 * kChunk, kChunk}, {6, 500 * kChunk, 3 * kChunk}}};
  const BootTrace another{
      kGrid.size_bytes, kFromStreamed, {{5, 502 * kChunk, 2 * kChunk}}};
  const auto plan = PlanBoot(kGrid, Layout(), Trace(), {machine, another});
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_GE(plan->prefetch.size(), 3U);
  const auto* last = &plan->prefetch.back();
  EXPECT_EQ(last->first, 503U);
  EXPECT_EQ(last->count, 1U);
  --last;
  EXPECT_EQ(last->first, 500U);
  EXPECT_EQ(last->count, 3U);
  --last;
  EXPECT_EQ(last->first, 302U);
}

TEST(BootPlanTest, MachinesAloneGiveAPrefetchListToo) {
  const BootTrace machine{
      kGrid.size_bytes, kFromStreamed, {{5, 300 * kChunk, kChunk}}};
  const auto plan = PlanBoot(kGrid, Layout(), std::nullopt, {machine});
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_EQ(plan->prefetch.size(), 1U);
  EXPECT_EQ(plan->prefetch[0].first, 300U);
}

TEST(BootPlanTest, WatchedBootsAreNoMachines) {
  const auto plan = PlanBoot(kGrid, Layout(), std::nullopt, {Trace()});
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kInvalid);
}

TEST(BootPlanTest, WithoutTraceThereIsNoPrefetch) {
  const auto plan = PlanBoot(kGrid, Layout(), std::nullopt);
  EXPECT_TRUE(plan->prefetch.empty());
  EXPECT_EQ(Chunks(plan->boot_set),
            (std::vector<uint64_t>{1023, 0, 64, 65, 70}));
}

TEST(BootPlanTest, TraceWithoutTakeOverIsRefused) {
  BootTrace trace = Trace();
  trace.reads.resize(4);
  const auto plan = PlanBoot(kGrid, Layout(), trace);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kRefused);
}

TEST(BootPlanTest, TraceOfAnotherDiskIsInvalid) {
  BootTrace trace = Trace();
  trace.disk_bytes += 4096;
  const auto plan = PlanBoot(kGrid, Layout(), trace);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kInvalid);
}

}  // namespace
}  // namespace bootstream
