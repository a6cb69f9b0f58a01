#include "bootagent/locate.h"
#include "tests/bootagent/migration_fixture.h"

// What the agent does not take up, on disks whose migration is whole.

namespace bootstream {
namespace {

class RefusalTest : public MigrationTest {
 protected:
  // Migrate as a machine whose disk has the serial number `serial`.
  Status MigrateAs(const std::string& serial, const MigrateOptions& options,
                   const std::string& stop_at = {}) {
    auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadWrite);
    if (!device) return device.error();
    StopPoints stops(stop_at);
    Progress progress(stderr, Progress::Style::kSilent);
    const Job job{disk_, *device, DigestOf(serial), stops, progress, 32};
    return RunInline(Migrate(job, options, *access_));
  }
  Result<Located> LocateAs(const std::string& serial) {
    auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadOnly);
    if (!device) return device.error();
    StopPoints stops;
    Progress progress(stderr, Progress::Style::kSilent);
    const Job job{disk_, *device, DigestOf(serial), stops, progress, 32};
    return RunInline(Locate(job));
  }
  static Sha256 DigestOf(const std::string& serial) {
    if (serial.empty()) return Sha256{};
    return Sha256Of(std::as_bytes(std::span(serial)));
  }
  MigrateOptions Options() const {
    MigrateOptions options;
    options.image_name = "new";
    options.plan = plan_options_;
    return options;
  }
};

TEST_F(RefusalTest, AnotherImageOrVersionIsNotTakenUp) {
  ASSERT_EQ(MigrateAs("", Options(), "staged").error().code,
            ErrorCode::kUnavailable);
  MigrateOptions another = Options();
  another.image_name = "other";
  EXPECT_EQ(MigrateAs("", another).error().code, ErrorCode::kRefused);
  another = Options();
  another.image_version = "77";
  EXPECT_EQ(MigrateAs("", another).error().code, ErrorCode::kRefused);
  EXPECT_EQ(PhaseOf(disk_), "staged");
  const Status own = MigrateAs("", Options());
  EXPECT_TRUE(own.has_value()) << own.error().message;
}

TEST_F(RefusalTest, VersionsOfTheImageUnderWayOnlyRise) {
  const Manifest& fetched = access_->manifest();
  Superblock on_disk;
  on_disk.image_name = "new";
  on_disk.image_version = fetched.version();
  EXPECT_TRUE(CheckNotOlder(on_disk, fetched).has_value());
  ++on_disk.image_version;
  const Status older = CheckNotOlder(on_disk, fetched);
  ASSERT_FALSE(older.has_value());
  EXPECT_EQ(older.error().code, ErrorCode::kRefused);
  on_disk.manifest_digest = fetched.digest();
  EXPECT_TRUE(CheckNotOlder(on_disk, fetched).has_value()) << "it is pinned";
  on_disk.manifest_digest = Sha256{};
  on_disk.image_name = "other";
  EXPECT_TRUE(CheckNotOlder(on_disk, fetched).has_value());
}

TEST_F(RefusalTest, RegionOfAnotherDiskIsIgnoredWithAWarning) {
  MigrateOptions options = Options();
  options.serial = "disk-1";
  ASSERT_EQ(MigrateAs("disk-1", options, "staged").error().code,
            ErrorCode::kUnavailable);
  const auto same = LocateAs("disk-1");
  ASSERT_TRUE(same.has_value()) << same.error().message;
  EXPECT_TRUE(same->superblock.has_value());
  const auto other = LocateAs("disk-2");
  ASSERT_TRUE(other.has_value()) << other.error().message;
  EXPECT_FALSE(other->superblock.has_value());
  EXPECT_EQ(other->warnings.size(), 1U);
}

TEST_F(RefusalTest, CommittedMigrationIsNotRolledBack) {
  ASSERT_TRUE(RunMigrate(disk_).has_value());
  {
    auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadWrite);
    ASSERT_TRUE(device.has_value());
    StopPoints stops;
    Progress progress(stderr, Progress::Style::kSilent);
    const Job job{disk_, *device, {}, stops, progress, 32};
    const auto located = RunInline(Locate(job));
    ASSERT_TRUE(located.has_value() && located->superblock.has_value());
    auto opened = RunInline(OpenMigration(job, *located->superblock, false));
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    ASSERT_TRUE(RunInline(opened->store->UpdateSuperblock([](Superblock& sb) {
                  sb.phase = Phase::kCommitted;
                  sb.committed = true;
                })).has_value());
  }
  const std::string before = Copy(disk_, "before");
  EXPECT_EQ(RunRollback(disk_).error().code, ErrorCode::kRefused);
  EXPECT_EQ(Load(disk_), Load(before));
}

}  // namespace
}  // namespace bootstream
