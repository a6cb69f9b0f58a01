#include "blockmap/disk/mover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/disk/source_view.h"
#include "tests/support/map_fixture.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = MapFixture::kChunk;

// A disk that loses or refuses the writes to one place, as a bad one does.
class LosingDevice final : public BlockDevice {
 public:
  LosingDevice(MemoryDevice& next) : next_(next) {}
  void Lose(DiskChunk chunk) { lost_ = chunk; }
  void Refuse(DiskChunk chunk) { refused_ = chunk; }
  void Submit(IoRequest& request) override {
    if (request.op == IoRequest::Op::kWrite && refused_ &&
        request.offset / kChunk == refused_->value) {
      request.complete(request, Error{ErrorCode::kIo, "refused"});
      return;
    }
    if (request.op == IoRequest::Op::kWrite && lost_ &&
        request.offset / kChunk == lost_->value) {
      request.complete(request, OkStatus());
      return;
    }
    next_.Submit(request);
  }
  uint64_t size_bytes() const override { return next_.size_bytes(); }

 private:
  MemoryDevice& next_;
  std::optional<DiskChunk> lost_;
  std::optional<DiskChunk> refused_;
};

class MoverTest : public testing::Test {
 protected:
  MoverTest() : memory_(MapFixture::kDiskBytes), device_(memory_) {
    for (uint64_t c = 0; c < MapFixture::kDiskChunks; ++c) {
      Fill(DiskChunk{c}, static_cast<uint8_t>(c + 1));
    }
    store_ = MapFixture::Create(device_);
  }
  void Fill(DiskChunk chunk, uint8_t value) {
    std::memset(memory_.bytes().data() + chunk.value * kChunk, value, kChunk);
  }
  bool Holds(DiskChunk chunk, uint8_t value) {
    const auto bytes = memory_.bytes().subspan(chunk.value * kChunk, kChunk);
    return std::ranges::all_of(
        bytes, [&](std::byte b) { return b == std::byte{value}; });
  }
  Status DoRelocate(std::vector<DiskChunk> sources,
                    const MoverOptions& options = {}) {
    return RunInline(Relocate(device_, *store_, sources, options));
  }
  void Reopen() {
    store_.reset();
    auto store = MapFixture::Open(device_);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = std::move(*store);
  }
  DiskChunk Now(uint64_t source) {
    return store_->map().Relocated(DiskChunk{source}).value();
  }

  MemoryDevice memory_;
  LosingDevice device_;
  std::unique_ptr<MapStore> store_;
};

TEST_F(MoverTest, RelocatedChunksAreCopiedAndRemembered) {
  ASSERT_TRUE(DoRelocate({{3}, {5}, {20}}).has_value());
  Reopen();
  for (const uint64_t source : {3, 5, 20}) {
    EXPECT_TRUE(Holds(Now(source), static_cast<uint8_t>(source + 1)));
    EXPECT_TRUE(store_->region().IsOurs(DiskChunk{source}));
  }
}

TEST_F(MoverTest, OldPlaceIsReservedForTheCaller) {
  ASSERT_TRUE(DoRelocate({{3}}).has_value());
  EXPECT_EQ(store_->region().OccupantOf({3}).use, ChunkUse::kReserved);
  store_->SetChunk({3}, {Location::At({3}), 1, 0});
  EXPECT_EQ(store_->region().OccupantOf({3}).use, ChunkUse::kImage);
}

TEST_F(MoverTest, ShortLastChunkIsRelocatedWhole) {
  const uint64_t last = MapFixture::kDiskChunks;
  std::memset(memory_.bytes().data() + last * kChunk, 0x77, 4096);
  ASSERT_TRUE(DoRelocate({{last}}).has_value());
  const auto copy = memory_.bytes().subspan(Now(last).value * kChunk, 4096);
  EXPECT_EQ(copy[4095], std::byte{0x77});
}

TEST_F(MoverTest, RelocatedChunkMovesOnAndItsCopyIsFreed) {
  ASSERT_TRUE(DoRelocate({{3}}).has_value());
  const DiskChunk first = Now(3);
  Fill({3}, 0xee);  // the place is ours now
  ASSERT_TRUE(DoRelocate({{3}}).has_value());
  EXPECT_NE(Now(3), first);
  EXPECT_TRUE(Holds(Now(3), 4));
  EXPECT_EQ(store_->region().OccupantOf(first).use, ChunkUse::kFree);
}

TEST_F(MoverTest, CopyThatReadsBackWrongDoesNotCount) {
  // Learn the place that it will take.
  ASSERT_TRUE(DoRelocate({{3}}).has_value());
  const DiskChunk place = Now(3);
  memory_ = MemoryDevice(MapFixture::kDiskBytes);
  store_ = MapFixture::Create(device_);
  Fill({3}, 4);
  device_.Lose(place);
  const auto status = DoRelocate({{3}});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_TRUE(store_->map().relocations().empty());
  EXPECT_FALSE(store_->region().IsOurs({3}));
  EXPECT_EQ(store_->region().OccupantOf(place).use, ChunkUse::kFree);
}

TEST_F(MoverTest, PlaceThatTakesNoWriteIsPassedOver) {
  ASSERT_TRUE(DoRelocate({{3}}).has_value());
  const DiskChunk place = Now(3);
  Fill({3}, 4);
  store_ = MapFixture::Create(device_);
  device_.Refuse(place);
  const auto status = DoRelocate({{3}, {5}});
  ASSERT_TRUE(status.has_value()) << status.error().message;
  EXPECT_NE(Now(3), place);
  EXPECT_NE(Now(5), place);
  EXPECT_EQ(store_->region().OccupantOf(place).use, ChunkUse::kReserved);
  Reopen();
  EXPECT_TRUE(Holds(Now(3), 4));
  EXPECT_TRUE(Holds(Now(5), 6));
  EXPECT_EQ(store_->region().OccupantOf(place).use, ChunkUse::kFree);
}

TEST_F(MoverTest, MoveGoesElsewhereIfItMay) {
  const auto place = store_->Allocate({PlacementWish::For::kSource, {}}, true);
  const auto bad = store_->Allocate({PlacementWish::For::kSource, {}}, true);
  ASSERT_TRUE(place && bad);
  Fill(*place, 0x55);
  const ImageChunk chunk{1};
  store_->SetChunk(chunk, {Location::At(*place), 1, 1});
  device_.Refuse(*bad);
  const std::vector<ImageMove> moves{{chunk, *bad}};
  EXPECT_FALSE(RunInline(MoveImageChunks(device_, *store_, moves)));
  MoverOptions options;
  options.elsewhere = [&](ImageChunk) {
    return store_->Allocate({PlacementWish::For::kSource, {}}, true);
  };
  const auto status =
      RunInline(MoveImageChunks(device_, *store_, moves, options));
  ASSERT_TRUE(status.has_value()) << status.error().message;
  const Location now = store_->map().Get(chunk).location;
  EXPECT_NE(now, Location::At(*bad));
  EXPECT_TRUE(Holds(now.chunk(), 0x55));
}

TEST_F(MoverTest, FullRegionIsNoSpaceAndKeepsWhatWasDone) {
  std::vector<DiskChunk> sources;
  for (uint64_t c = 0; c < 40; ++c) sources.push_back({c});
  for (uint64_t c = 140; c < 150; ++c) sources.push_back({c});
  while (store_->Allocate({PlacementWish::For::kSource, {}}, true)) {
  }
  MoverOptions options;
  options.batch_chunks = 1;
  const auto status = DoRelocate(sources, options);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kNoSpace);
}

TEST_F(MoverTest, RestoredChunkIsBackAndLeavesTheRegion) {
  ASSERT_TRUE(DoRelocate({{3}, {5}}).has_value());
  Fill({3}, 0xee);
  const DiskChunk copy = Now(3);
  const std::vector<DiskChunk> back{{3}};
  ASSERT_TRUE(RunInline(RestoreSource(device_, *store_, back)).has_value());
  EXPECT_TRUE(Holds({3}, 4));
  EXPECT_FALSE(store_->region().IsOurs({3}));
  EXPECT_EQ(store_->region().OccupantOf(copy).use, ChunkUse::kFree);
  EXPECT_TRUE(store_->map().Relocated({5}).has_value());
}

TEST_F(MoverTest, SkippedSectorsStayAsTheyAre) {
  ASSERT_TRUE(DoRelocate({{3}}).has_value());
  Fill({3}, 0xee);
  const std::vector<ByteExtent> skip{{3 * kChunk + 512, 512}};
  const std::vector<DiskChunk> back{{3}};
  ASSERT_TRUE(RunInline(RestoreSource(device_, *store_, back, skip,
                                      /*record=*/false))
                  .has_value());
  const auto bytes = memory_.bytes().subspan(3 * kChunk, kChunk);
  EXPECT_EQ(bytes[511], std::byte{4});
  EXPECT_EQ(bytes[512], std::byte{0xee});
  EXPECT_EQ(bytes[1023], std::byte{0xee});
  EXPECT_EQ(bytes[1024], std::byte{4});
  EXPECT_TRUE(store_->map().Relocated({3}).has_value());
}

TEST_F(MoverTest, ImageChunkMovesWithItsState) {
  ASSERT_TRUE(DoRelocate({{2}}).has_value());
  const auto staged =
      store_->Allocate({PlacementWish::For::kStagedChunk, ImageChunk{2}});
  ASSERT_TRUE(staged.has_value());
  Fill(*staged, 0x42);
  store_->SetChunk({2}, {Location::At(*staged), 0xffff, 3});
  const std::vector<ImageMove> moves{{ImageChunk{2}, DiskChunk{2}}};
  ASSERT_TRUE(RunInline(MoveImageChunks(device_, *store_, moves)).has_value());
  Reopen();
  EXPECT_TRUE(Holds({2}, 0x42));
  EXPECT_EQ(store_->map().Get({2}), (ChunkState{Location::At({2}), 0xffff, 3}));
  EXPECT_EQ(store_->region().OccupantOf(*staged).use, ChunkUse::kFree);
}

TEST_F(MoverTest, ChangedSourceIsFound) {
  ASSERT_TRUE(DoRelocate({{3}, {5}}).has_value());
  auto changed = RunInline(FindChangedSource(device_, *store_));
  ASSERT_TRUE(changed.has_value());
  EXPECT_FALSE(changed->has_value());
  memory_.bytes()[5 * kChunk + 700] = std::byte{0};
  changed = RunInline(FindChangedSource(device_, *store_));
  EXPECT_EQ(*changed, DiskChunk{5});
  const std::vector<ByteExtent> skip{{5 * kChunk + 512, 512}};
  changed = RunInline(FindChangedSource(device_, *store_, skip));
  EXPECT_FALSE(changed->has_value());
}

TEST_F(MoverTest, SourceViewReadsRelocatedChunksWhereTheyAre) {
  ASSERT_TRUE(DoRelocate({{3}, {5}}).has_value());
  Fill({3}, 0xee);
  SourceView view(device_, store_->map(), store_->disk_grid());
  AlignedBuffer buffer(2 * kChunk);
  ASSERT_TRUE(
      RunInline([](SourceView& v, std::span<std::byte> to) -> Task<Status> {
        co_return co_await v.Read(2 * kChunk + 512, to);
      }(view, buffer.span()))
          .has_value());
  EXPECT_EQ(buffer.data()[0], std::byte{3});
  EXPECT_EQ(buffer.data()[kChunk - 512], std::byte{4});
  EXPECT_EQ(buffer.data()[2 * kChunk - 512], std::byte{5});
}

}  // namespace
}  // namespace bootstream
