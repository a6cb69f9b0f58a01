#include "blockmap/map/checkpoint.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/support/map_fixture.h"

namespace bootstream {
namespace {

MapLimits Limits() {
  return {MapFixture::Facts().grid,
          Grid{MapFixture::kChunk, MapFixture::kDiskBytes}};
}

BlockMap SomeMap() {
  BlockMap map;
  map.Set(ImageChunk{0}, {Location::At(DiskChunk{60}), 3, 1});
  map.Set(ImageChunk{63}, {Location::Zero(), 0, 0});
  map.Set(ImageChunk{64}, {Location::At(DiskChunk{61}), 0xffff, 0xffff});
  map.Set(ImageChunk{95}, {Location::At(DiskChunk{62}), 0x1f, 0});
  map.SetRelocation(DiskChunk{5}, DiskChunk{70});
  map.SetRelocation(DiskChunk{180}, DiskChunk{71});  // the short last chunk
  map.AddPatch(ImageChunk{0}, {3 * kBlockBytes, {std::byte{1}, std::byte{2}}});
  map.AddPatch(ImageChunk{7}, {9, {std::byte{3}}});
  return map;
}

TEST(CheckpointTest, RoundTripKeepsEverything) {
  const BlockMap map = SomeMap();
  const auto region = MapFixture::RegionExtents();
  const auto bytes = EncodeCheckpoint(map, region);
  EXPECT_EQ(bytes.size(), CheckpointBytes(map, region.size()));
  const auto back = DecodeCheckpoint(bytes, Limits());
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(Describe(back->map), Describe(map));
  EXPECT_EQ(back->region, region);
  const auto empty = DecodeCheckpoint(EncodeCheckpoint({}, {}), Limits());
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->map.chunk_count(), 0U);
}

TEST(CheckpointTest, CutShortAtEveryLengthIsCorrupt) {
  const auto bytes = EncodeCheckpoint(SomeMap(), MapFixture::RegionExtents());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto back = DecodeCheckpoint(std::span(bytes).first(size), Limits());
    ASSERT_FALSE(back) << size;
    EXPECT_EQ(back.error().code, ErrorCode::kCorrupt);
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(DecodeCheckpoint(longer, Limits()));
}

// The chain's checksums find damage; here it must only do no harm.
TEST(CheckpointTest, AnyDamageIsRefusedOrGivesAMapWithinTheLimits) {
  const auto bytes = EncodeCheckpoint(SomeMap(), MapFixture::RegionExtents());
  std::mt19937_64 random(5);
  for (int i = 0; i < 20000; ++i) {
    auto bad = bytes;
    for (uint64_t n = random() % 3 + 1; n > 0; --n) {
      bad[random() % bad.size()] = std::byte(random());
    }
    const auto back = DecodeCheckpoint(bad, Limits());
    if (!back) continue;
    back->map.ForEach([](ImageChunk chunk, const ChunkState& state) {
      EXPECT_TRUE(CheckRecord(SetRecord{chunk, state}, Limits()));
    });
    EXPECT_TRUE(CheckRegion(back->region, Limits()));
  }
}

TEST(CheckpointTest, RegionMustBeAscendingAndOnTheDisk) {
  const auto check = [](std::vector<DiskExtent> region) {
    return CheckRegion(region, Limits()).has_value();
  };
  EXPECT_TRUE(check({}));
  EXPECT_TRUE(check({{0, 180}}));
  EXPECT_TRUE(check({{0, 181}}));  // all of the disk
  EXPECT_FALSE(check({{0, 182}}));
  EXPECT_FALSE(check({{1, 180}}));
  EXPECT_FALSE(check({{5, 0}}));
  EXPECT_FALSE(check({{5, 5}, {10, 5}}));  // one, really
  EXPECT_FALSE(check({{9, 5}, {5, 2}}));
  EXPECT_FALSE(check({{~uint64_t{0}, 2}}));
  EXPECT_FALSE(check({{5, ~uint64_t{0}}}));
}

TEST(CheckpointTest, RecordsThatMakeNoSenseAreCorrupt) {
  BlockMap map;
  map.Set(ImageChunk{3}, {Location::At(DiskChunk{60}), 0b1, 0});
  map.Set(ImageChunk{4}, {Location::Zero(), 0, 0});
  const auto at = Location::At(DiskChunk{60});
  const std::vector<Record> bad = {
      SetRecord{ImageChunk{96}, {at, 1, 0}},
      SetRecord{ImageChunk{1}, {at, 0b01, 0b10}},    // dirty, not valid
      SetRecord{ImageChunk{95}, {at, 0b100000, 0}},  // beyond the last block
      SetRecord{ImageChunk{1}, {Location(), 1, 0}},  // valid, nowhere
      SetRecord{ImageChunk{1}, {Location::At(DiskChunk{181}), 1, 0}},
      RelocationRecord{DiskChunk{181}, DiskChunk{60}},
      RelocationRecord{DiskChunk{5}, DiskChunk{180}},  // into a short chunk
      RelocationRecord{DiskChunk{5}, DiskChunk{5}},
      RelocationRecord{DiskChunk{5}, std::nullopt},  // never was away
      PatchRecord{ImageChunk{96}, {0, {std::byte{1}}}},
      PatchRecord{ImageChunk{1}, {0, {}}},
      PatchRecord{ImageChunk{1}, {4095, {std::byte{1}, std::byte{1}}}},
      PatchRecord{ImageChunk{1}, {65536, {std::byte{1}}}},
      PatchRecord{ImageChunk{1}, {~uint32_t{0}, {std::byte{1}}}},
      PatchRecord{ImageChunk{95}, {5 * kBlockBytes, {std::byte{1}}}},
      PatchRecord{ImageChunk{3}, {0, {std::byte{1}}}},  // already there
      PatchRecord{ImageChunk{4}, {0, {std::byte{1}}}},  // zero
  };
  const std::string before = Describe(map);
  for (size_t i = 0; i < bad.size(); ++i) {
    const Status status = ApplyRecord(bad[i], Limits(), map);
    ASSERT_FALSE(status) << i;
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
    EXPECT_EQ(Describe(map), before);
  }
}

}  // namespace
}  // namespace bootstream
