#include "tests/support/volatile_disk.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "tests/support/disk_image.h"

namespace bootstream {
namespace {

constexpr uint64_t kDiskBytes = 1 << 20;
constexpr uint64_t kBlock = 4096;

std::vector<std::byte> Filled(size_t size, unsigned value) {
  return std::vector<std::byte>(size, static_cast<std::byte>(value));
}

class VolatileDiskTest : public testing::Test {
 protected:
  VolatileDiskTest()
      : path_(testing::TempDir() + "volatile-disk-" +
              std::to_string(::getpid())) {
    std::ofstream file(path_, std::ios::binary);
    file.close();
    std::filesystem::resize_file(path_, kDiskBytes);
    Open(VolatileDisk::kCacheBytes);
  }
  ~VolatileDiskTest() override { std::remove(path_.c_str()); }

  void Open(uint64_t cache_bytes) {
    auto disk = VolatileDisk::Open(path_, cache_bytes);
    ASSERT_TRUE(disk.has_value()) << disk.error().message;
    disk_ = std::move(*disk);
    disk_->set_on_cut(
        [this](const VolatileDisk::Outcome& outcome) { outcome_ = outcome; });
  }
  void StartAgain() {
    outcome_.reset();
    Open(VolatileDisk::kCacheBytes);
  }
  Status Write(uint64_t offset, size_t size, unsigned value, bool fua = false) {
    const auto data = Filled(size, value);
    return RunInline(disk_->Write(offset, data, fua));
  }
  void MustWrite(uint64_t offset, size_t size, unsigned value,
                 bool fua = false) {
    const auto status = Write(offset, size, value, fua);
    ASSERT_TRUE(status.has_value()) << status.error().message;
  }
  std::vector<std::byte> Read(uint64_t offset, size_t size) {
    std::vector<std::byte> out(size);
    EXPECT_TRUE(RunInline(disk_->Read(offset, out)).has_value());
    return out;
  }
  // What the file itself holds.
  std::vector<std::byte> Durable(uint64_t offset, size_t size) {
    std::vector<std::byte> out(size);
    std::ifstream file(path_, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    file.read(reinterpret_cast<char*>(out.data()),
              static_cast<std::streamsize>(size));
    return out;
  }
  bool Flush() { return RunInline(disk_->Flush()).has_value(); }

  std::string path_;
  std::unique_ptr<VolatileDisk> disk_;
  std::optional<VolatileDisk::Outcome> outcome_;
};

TEST_F(VolatileDiskTest, WritesAreSeenAtOnceAndDurableAfterAFlush) {
  MustWrite(kBlock, kBlock, 1);
  EXPECT_EQ(Read(kBlock, kBlock), Filled(kBlock, 1));
  EXPECT_EQ(Durable(kBlock, kBlock), Filled(kBlock, 0));
  EXPECT_TRUE(Flush());
  EXPECT_EQ(Durable(kBlock, kBlock), Filled(kBlock, 1));
}

TEST_F(VolatileDiskTest, FuaBringsThatOneWriteToTheDisk) {
  MustWrite(0, kBlock, 1);
  MustWrite(kBlock, kBlock, 2, true);
  EXPECT_EQ(Durable(0, kBlock), Filled(kBlock, 0));
  EXPECT_EQ(Durable(kBlock, kBlock), Filled(kBlock, 2));
}

TEST_F(VolatileDiskTest, FuaIsNotUndoneByAnOlderWriteThatIsKept) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    MustWrite(0, kBlock, 1);
    MustWrite(512, 1024, 2, true);
    disk_->CutPower(seed);
    StartAgain();
    ASSERT_EQ(Durable(512, 1024), Filled(1024, 2)) << "seed " << seed;
  }
}

TEST_F(VolatileDiskTest, WhatWasFlushedSurvivesEveryCut) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    MustWrite(0, 8 * kBlock, 1);
    ASSERT_TRUE(Flush());
    MustWrite(16 * kBlock, 8 * kBlock, 2);
    disk_->CutPower(seed);
    EXPECT_FALSE(Write(0, kBlock, 3).has_value());
    EXPECT_FALSE(Flush());
    StartAgain();
    ASSERT_EQ(Read(0, 8 * kBlock), Filled(8 * kBlock, 1)) << "seed " << seed;
  }
}

TEST_F(VolatileDiskTest, WhatWasNotFlushedIsKeptDroppedOrTorn) {
  VolatileDisk::Outcome sum;
  std::set<uint64_t> torn_lengths;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    MustWrite(0, 16 * kBlock, 0);
    ASSERT_TRUE(Flush());
    MustWrite(0, 8 * kBlock, 1);
    MustWrite(8 * kBlock, 8 * kBlock, 2);
    disk_->CutPower(seed);
    ASSERT_TRUE(outcome_.has_value());
    ASSERT_EQ(outcome_->unflushed, 2u);
    ASSERT_EQ(outcome_->kept + outcome_->dropped + outcome_->torn, 2u);
    sum.kept += outcome_->kept;
    sum.dropped += outcome_->dropped;
    sum.torn += outcome_->torn;
    StartAgain();
    const auto found = Durable(0, 8 * kBlock);
    torn_lengths.insert(static_cast<uint64_t>(
        std::count(found.begin(), found.end(), std::byte{1})));
  }
  EXPECT_GT(sum.kept, 20u);
  EXPECT_GT(sum.dropped, 20u);
  EXPECT_GT(sum.torn, 20u);
  EXPECT_GT(torn_lengths.size(), 10u);
}

TEST_F(VolatileDiskTest, TheSameSeedLeavesTheSameDisk) {
  std::vector<std::vector<std::byte>> found;
  for (int round = 0; round < 2; ++round) {
    MustWrite(0, 64 * kBlock, 0);
    ASSERT_TRUE(Flush());
    for (unsigned i = 0; i < 64; ++i) MustWrite(i * kBlock, kBlock, i + 1);
    disk_->CutPower(7);
    StartAgain();
    found.push_back(Durable(0, 64 * kBlock));
  }
  EXPECT_EQ(found[0], found[1]);
}

TEST_F(VolatileDiskTest, PowerGoesAtTheNumberedWriteOrFlush) {
  MustWrite(0, kBlock, 1);
  disk_->Mark();
  disk_->CutAtWrite(2, 1);
  MustWrite(0, kBlock, 2);
  EXPECT_FALSE(outcome_.has_value());
  EXPECT_FALSE(Write(0, kBlock, 3).has_value());
  ASSERT_TRUE(outcome_.has_value());
  EXPECT_EQ(outcome_->unflushed, 3u);

  StartAgain();
  disk_->CutAtFlush(2, 1);
  EXPECT_TRUE(Flush());
  MustWrite(0, kBlock, 4);
  EXPECT_FALSE(Flush());
  ASSERT_TRUE(outcome_.has_value());
  EXPECT_EQ(outcome_->unflushed, 1u) << "the flush covers nothing";

  StartAgain();
  MustWrite(0, kBlock, 5);
  disk_->CutAtWrite(1, 1);
  EXPECT_TRUE(outcome_.has_value()) << "it is too late for the first";
}

TEST_F(VolatileDiskTest, ACacheThatIsFullWritesItsOldestBack) {
  Open(4 * kBlock);
  for (unsigned i = 0; i < 6; ++i) MustWrite(i * kBlock, kBlock, i + 1);
  EXPECT_EQ(disk_->counts().unflushed, 4u);
  EXPECT_EQ(Durable(kBlock, kBlock), Filled(kBlock, 2));
  EXPECT_EQ(Durable(2 * kBlock, kBlock), Filled(kBlock, 0));
  for (unsigned i = 0; i < 6; ++i) {
    EXPECT_EQ(Read(i * kBlock, kBlock), Filled(kBlock, i + 1));
  }
}

// Against a plain copy: overlapping writes, zeroes and discards of any size.
TEST_F(VolatileDiskTest, ReadsSeeTheNewestOfOverlappingWrites) {
  Open(32 * kBlock);
  DiskImage model(kDiskBytes);
  std::mt19937_64 random(1);
  for (unsigned step = 0; step < 3000; ++step) {
    const uint64_t offset = random() % kDiskBytes;
    const uint64_t size =
        std::min(random() % (10 * kBlock) + 1, kDiskBytes - offset);
    const uint64_t what = random() % 100;
    if (what < 50) {
      MustWrite(offset, size, step % 255 + 1, what < 5);
      model.Write(offset, Filled(size, step % 255 + 1));
    } else if (what < 60) {
      ASSERT_TRUE(RunInline(disk_->Discard(offset, size)).has_value());
      model.Write(offset, Filled(size, 0));
    } else if (what < 62) {
      ASSERT_TRUE(Flush());
      std::vector<std::byte> expected(size);
      model.Read(offset, expected);
      ASSERT_EQ(Durable(offset, size), expected);
    } else {
      std::vector<std::byte> expected(size);
      model.Read(offset, expected);
      ASSERT_EQ(Read(offset, size), expected) << "step " << step;
    }
  }
}

}  // namespace
}  // namespace bootstream
