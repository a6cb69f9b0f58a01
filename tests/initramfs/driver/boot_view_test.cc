#include "initramfs/driver/boot_view.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "tests/support/engine_rig.h"

namespace bootstream {
namespace {

using std::chrono::seconds;

constexpr uint64_t kChunk = EngineRig::kChunk;

class BootViewTest : public testing::Test {
 protected:
  explicit BootViewTest(std::vector<DiskExtent> region = {{16, 8}, {64, 80}})
      : rig_(std::move(region)),
        view_(rig_.executor(), rig_.device(), rig_.engine()) {}

  Task<void> ReadInto(uint64_t chunk, AlignedBuffer& out,
                      std::optional<Status>& status) {
    status = co_await view_.Read(chunk * kChunk, out.span());
  }
  // Ends when it can without the clock.
  std::optional<Status> Start(uint64_t chunk) {
    Spawn(ReadInto(chunk, content_, status_));
    rig_.executor().RunReady();
    return status_;
  }
  bool Reads(uint64_t chunk, std::span<const std::byte> expected) {
    status_.reset();
    const auto status = Start(chunk);
    return status && *status && std::ranges::equal(content_.span(), expected);
  }
  std::span<const std::byte> ImageChunkBytes(uint64_t chunk) const {
    return std::span(rig_.image()).subspan(chunk * kChunk, kChunk);
  }
  std::span<const std::byte> RawChunk(uint64_t chunk) {
    return rig_.device().bytes().subspan(chunk * kChunk, kChunk);
  }
  std::span<const std::byte> OldChunk(uint64_t chunk) const {
    return std::span(rig_.old_disk()).subspan(chunk * kChunk, kChunk);
  }

  EngineRig rig_;
  BootView view_;
  AlignedBuffer content_{kChunk};
  std::optional<Status> status_;
};

TEST_F(BootViewTest, ItShowsTheRawDisk) {
  rig_.Read(30 * kChunk, kChunk);
  ASSERT_NE(rig_.engine_state(30).location, Location::At(DiskChunk{30}));
  view_.Look();
  EXPECT_TRUE(Reads(30, OldChunk(30)));
  EXPECT_TRUE(Reads(2, RawChunk(2)));
}

TEST_F(BootViewTest, WhatIsReadComesHome) {
  rig_.Read(30 * kChunk, kChunk);  // elsewhere
  rig_.Write(31 * kChunk, 4096, std::byte{0x5a});
  view_.Bring(seconds(60));
  EXPECT_TRUE(Reads(30, ImageChunkBytes(30)));
  EXPECT_TRUE(Reads(29, ImageChunkBytes(29)));  // was missing
  std::vector<std::byte> written(ImageChunkBytes(31).begin(),
                                 ImageChunkBytes(31).end());
  std::fill_n(written.begin(), 4096, std::byte{0x5a});
  EXPECT_TRUE(Reads(31, written));
  EXPECT_EQ(view_.brought_count(), 3U);
  for (const uint64_t chunk : {29, 30, 31}) {
    EXPECT_EQ(rig_.engine_state(chunk).location, Location::At(DiskChunk{chunk}));
  }
  EXPECT_TRUE(std::ranges::equal(RawChunk(29), ImageChunkBytes(29)));
  // The old system's chunks that lay there are kept.
  EXPECT_TRUE(std::ranges::equal(rig_.SourceChunk(29), OldChunk(29)));
}

TEST_F(BootViewTest, ZeroesComeHomeToo) {
  view_.Bring(seconds(60));
  const std::vector<std::byte> zeroes(kChunk);
  EXPECT_TRUE(Reads(9, zeroes));
  EXPECT_TRUE(std::ranges::equal(RawChunk(9), zeroes));
  rig_.Write(10 * kChunk, 4096, std::byte{1});
  std::vector<std::byte> written = zeroes;
  std::fill_n(written.begin(), 4096, std::byte{1});
  EXPECT_TRUE(Reads(10, written));
  EXPECT_TRUE(std::ranges::equal(RawChunk(10), written));
}

TEST_F(BootViewTest, ItStaysAtHomeAfterARestart) {
  view_.Bring(seconds(60));
  ASSERT_TRUE(Reads(29, ImageChunkBytes(29)));
  ASSERT_TRUE(RunInline(rig_.engine().Flush()));
  rig_.Restart();
  EXPECT_TRUE(rig_.engine().IsHomeToStay(ImageChunk{29}, 0xffff));
}

TEST_F(BootViewTest, PatienceEnds) {
  rig_.source().Hold();
  view_.Bring(seconds(5));
  ASSERT_FALSE(Start(29));
  rig_.executor().Advance(seconds(4));
  ASSERT_FALSE(status_);
  rig_.executor().Advance(seconds(2));
  ASSERT_TRUE(status_);
  ASSERT_FALSE(*status_);
  EXPECT_EQ(status_->error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(view_.late());
  // Who only looks waits for nobody.
  view_.Look();
  EXPECT_FALSE(view_.late());
  EXPECT_TRUE(Reads(28, OldChunk(28)));
  view_.Bring(seconds(0));
  rig_.executor().RunReady();
  // From now on nothing waits; what is there is read.
  status_.reset();
  ASSERT_TRUE(Start(28));
  EXPECT_FALSE(*status_);
  rig_.source().Release();
  rig_.executor().RunReady();
  EXPECT_TRUE(Reads(29, ImageChunkBytes(29)));
  // New patience.
  view_.Bring(seconds(5));
  EXPECT_TRUE(Reads(28, ImageChunkBytes(28)));
  EXPECT_FALSE(view_.late());
}

TEST_F(BootViewTest, BlocksWrittenInPartBecomeWhole) {
  rig_.source().Hold();
  rig_.Write(4 * kChunk + 512, 512, std::byte{0x77});  // a patch
  ASSERT_TRUE(rig_.engine().IsMissing(ImageChunk{4}));
  rig_.source().Release();
  view_.Bring(seconds(5));
  std::optional<Status> status;
  const auto bring = [&]() -> Task<void> {
    status = co_await view_.BringPatched();
  };
  Spawn(bring());
  rig_.executor().RunReady();
  ASSERT_TRUE(status && *status);
  std::vector<std::byte> written(ImageChunkBytes(4).begin(),
                                 ImageChunkBytes(4).end());
  std::fill_n(written.begin() + 512, 512, std::byte{0x77});
  EXPECT_TRUE(std::ranges::equal(RawChunk(4), written));
  EXPECT_FALSE(rig_.engine().IsMissing(ImageChunk{4}));
  EXPECT_TRUE(rig_.engine().IsMissing(ImageChunk{5}));  // nobody wrote there
}

// Without a server: whole blocks that were written to a pinned range are at home,
// and nobody waits for what lies beside them.
TEST_F(BootViewTest, WhatIsHomeIsReadThoughItsChunkIsNotWhole) {
  rig_.source().Hold();
  rig_.Write(5 * kChunk + 8192, 8192, std::byte{0x66});
  view_.Bring(seconds(5));
  ASSERT_TRUE(RunInline(view_.BringPatched()));
  std::optional<Status> status;
  AlignedBuffer out(8192);
  const auto read = [&](uint64_t at) -> Task<void> {
    status = co_await view_.Read(5 * kChunk + at, out.span());
  };
  Spawn(read(8192));
  rig_.executor().RunReady();
  ASSERT_TRUE(status && *status);
  EXPECT_TRUE(std::ranges::all_of(
      out.span(), [](std::byte b) { return b == std::byte{0x66}; }));
  EXPECT_FALSE(view_.late());
  status.reset();
  Spawn(read(4096));
  rig_.executor().RunReady();
  EXPECT_FALSE(status);
  rig_.executor().Advance(seconds(6));
  ASSERT_TRUE(status);
  EXPECT_FALSE(*status);
  rig_.source().Release();
  rig_.executor().RunReady();
}

class BootViewInSmallRegionTest : public BootViewTest {
 protected:
  BootViewInSmallRegionTest() : BootViewTest({{64, 30}}) {}
};

TEST_F(BootViewInSmallRegionTest, WhatTheLoaderReadsIsNeverEvicted) {
  view_.Bring(seconds(60));
  ASSERT_TRUE(Reads(29, ImageChunkBytes(29)));
  for (uint64_t chunk = 12; chunk < EngineRig::kImageChunks; ++chunk) {
    rig_.Read(chunk * kChunk, kChunk);
    rig_.Read((chunk - 12) * kChunk, kChunk);
  }
  ASSERT_GT(rig_.engine().statistics().evicted_chunks, 0U);
  EXPECT_TRUE(rig_.engine().IsHomeToStay(ImageChunk{29}, 0xffff));
  EXPECT_TRUE(std::ranges::equal(RawChunk(29), ImageChunkBytes(29)));
}

}  // namespace
}  // namespace bootstream
