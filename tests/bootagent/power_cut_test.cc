#include <random>

#include "blockmap/disk/find_migration.h"
#include "bootagent/stage.h"
#include "tests/bootagent/migration_fixture.h"
#include "tests/support/crash_device.h"

// The power goes at every flush of a migration and of a rollback; what was not
// flushed is kept, dropped or torn.  From what is left the agent goes on, or
// back.

namespace bootstream {
namespace {

class PowerCutTest : public MigrationTest {
 protected:
  void SetUp() override {
    MigrationTest::SetUp();
    if (IsSkipped()) return;
    const auto status = RunMigrate(disk_, "released");
    ASSERT_EQ(status.error().code, ErrorCode::kUnavailable)
        << status.error().message;
    region_ = RegionOf(disk_);
    released_.emplace(ReadDisk());
  }

  DiskImage ReadDisk() {
    const auto loaded = Load(disk_);
    std::vector<std::byte> bytes(loaded.size());
    std::memcpy(bytes.data(), loaded.data(), loaded.size());
    return DiskImage(std::move(bytes));
  }
  Status Go(CrashDevice& device) { return MigrateOn(device, disk_); }
  Status Back(CrashDevice& device) { return RollbackOn(device, disk_); }

  void ExpectBootSetHome(const CrashDevice& device) {
    std::vector<std::byte> found(kChunk);
    const auto image = access_->source().image();
    for (const ImageChunk chunk : BootChunks(access_->manifest())) {
      const uint64_t at = chunk.value * kChunk;
      device.image().Read(at, found);
      ASSERT_EQ(std::memcmp(found.data(), image.data() + at, kChunk), 0)
          << "boot chunk " << chunk.value;
    }
  }
  void ExpectDriverFindsIt(CrashDevice& device) {
    const auto found = RunInline(FindMigration(device, Sha256{}));
    ASSERT_TRUE(found.has_value()) << found.error().message;
    ASSERT_TRUE(found->superblock.has_value()) << "armed without an anchor";
    EXPECT_EQ(found->superblock->phase, Phase::kArmed);
    EXPECT_FALSE(found->by_stub);
  }
  void ExpectSourceBack(const CrashDevice& device) {
    std::vector<std::byte> now(kChunk), then(kChunk);
    for (uint64_t c = 0; c * kChunk < kDiskBytes; ++c) {
      const bool ours = std::ranges::any_of(region_, [&](const DiskExtent& e) {
        return c >= e.first && c < e.end();
      });
      if (ours) continue;
      const size_t size = std::min<uint64_t>(kChunk, kDiskBytes - c * kChunk);
      device.image().Read(c * kChunk, std::span(now).first(size));
      released_->Read(c * kChunk, std::span(then).first(size));
      ASSERT_EQ(std::memcmp(now.data(), then.data(), size), 0)
          << "source chunk " << c;
    }
  }

  std::optional<DiskImage> released_;
  std::vector<DiskExtent> region_;
};

TEST_F(PowerCutTest, MigrationGoesOnOrBackFromEveryFlush) {
  CrashDevice whole(*released_);
  ASSERT_TRUE(Go(whole).has_value());
  const uint64_t flushes = whole.flush_count();
  ASSERT_GT(flushes, 20u);
  for (uint64_t cut = 0; cut < flushes; ++cut) {
    SCOPED_TRACE("power cut at flush " + std::to_string(cut));
    CrashDevice device(*released_);
    device.CutPowerAtFlush(cut);
    ASSERT_FALSE(Go(device).has_value());
    std::mt19937_64 random(cut);
    CrashDevice on(device.AfterPowerCut(random));
    const auto went_on = Go(on);
    ASSERT_TRUE(went_on.has_value()) << went_on.error().message;
    ASSERT_NO_FATAL_FAILURE(ExpectBootSetHome(on));
    ASSERT_NO_FATAL_FAILURE(ExpectDriverFindsIt(on));
    CrashDevice back(device.AfterPowerCut(random));
    const auto went_back = Back(back);
    ASSERT_TRUE(went_back.has_value()) << went_back.error().message;
    ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(back));
  }
}

TEST_F(PowerCutTest, RollbackGoesOnFromEveryFlush) {
  CrashDevice armed(*released_);
  ASSERT_TRUE(Go(armed).has_value());
  CrashDevice whole(armed.image());
  ASSERT_TRUE(Back(whole).has_value());
  ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(whole));
  const uint64_t flushes = whole.flush_count();
  for (uint64_t cut = 0; cut < flushes; ++cut) {
    SCOPED_TRACE("power cut at flush " + std::to_string(cut));
    CrashDevice device(armed.image());
    device.CutPowerAtFlush(cut);
    ASSERT_FALSE(Back(device).has_value());
    std::mt19937_64 random(cut);
    CrashDevice back(device.AfterPowerCut(random));
    const auto went_back = Back(back);
    ASSERT_TRUE(went_back.has_value()) << went_back.error().message;
    ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(back));
  }
}

TEST_F(PowerCutTest, NothingOutsideTheRegionChangesBeforeTheStub) {
  CrashDevice device(*released_);
  const auto status = MigrateOn(device, disk_, "relocated");
  ASSERT_EQ(status.error().code, ErrorCode::kUnavailable);
  ExpectSourceBack(device);
}

}  // namespace
}  // namespace bootstream
