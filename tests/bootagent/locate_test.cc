#include "bootagent/locate.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "blockmap/base/unique_fd.h"
#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/region_tag.h"
#include "bootagent/forget.h"
#include "tests/bootagent/migration_fixture.h"

// What is found by the region file, and what must not be: superblocks of other
// migrations in the space that it has covered.

namespace bootstream {
namespace {

// Passes everything on, and counts the reads.
class CountingDevice final : public BlockDevice {
 public:
  explicit CountingDevice(BlockDevice& next) : next_(next) {}
  void Submit(IoRequest& request) override {
    reads_ += request.op == IoRequest::Op::kRead;
    next_.Submit(request);
  }
  uint64_t size_bytes() const override { return next_.size_bytes(); }
  uint64_t reads() const { return reads_; }

 private:
  BlockDevice& next_;
  uint64_t reads_ = 0;
};

class LocateTest : public MigrationTest {
 protected:
  void SetUp() override {
    MigrationTest::SetUp();
    if (IsSkipped()) return;
    fd_.reset(::open(disk_.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd_);
  }

  // `reads`: how many it took.
  Result<Located> Find(uint64_t* reads = nullptr) {
    auto file = PosixBlockDevice::Open(disk_, OpenMode::kReadOnly);
    if (!file) return file.error();
    CountingDevice device(*file);
    auto located = RunInline(Locate(JobOn(device)));
    if (reads != nullptr) *reads = device.reads();
    return located;
  }
  Superblock Found() {
    auto located = Find();
    EXPECT_TRUE(located.has_value()) << located.error().message;
    if (!located || !located->superblock) return Superblock{};
    EXPECT_EQ(located->by, Located::By::kRegionFile);
    return *located->superblock;
  }
  void ExpectNothing() {
    uint64_t reads = 0;
    const auto located = Find(&reads);
    ASSERT_TRUE(located.has_value()) << located.error().message;
    EXPECT_FALSE(located->superblock.has_value());
    EXPECT_LT(reads, kFewReads) << "it was looked for";
  }
  Status RunForget() {
    auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadWrite);
    if (!device) return device.error();
    return RunInline(Forget(JobOn(*device)));
  }
  void Stop(const std::string& at) {
    const Status status = RunMigrate(disk_, at);
    ASSERT_FALSE(status.has_value()) << "never came by " << at;
    ASSERT_EQ(status.error().code, ErrorCode::kUnavailable)
        << status.error().message;
  }
  void Put(const Superblock& superblock, uint64_t at, bool damaged) {
    auto block = *EncodeSuperblock(superblock);
    if (damaged) block[1000] ^= std::byte{1};
    ASSERT_EQ(
        ::pwrite(fd_.get(), block.data(), block.size(), static_cast<off_t>(at)),
        static_cast<ssize_t>(block.size()));
  }

  // At every place of the region, on the grids of all three sizes, a superblock
  // that would be taken for the newest one: with a damaged and a newer one
  // beside it.
  void PlantStale(const std::vector<DiskExtent>& region, Superblock stale) {
    stale.migration_id.fill(std::byte{0x99});
    stale.phase = Phase::kParked;
    stale.sequence = 1000;
    const std::array<uint32_t, 3> sizes{kChunkBytesMin, kChunkBytesDefault,
                                        kChunkBytesMax};
    for (const DiskExtent& extent : region) {
      for (uint64_t c = extent.first; c < extent.end(); ++c) {
        const uint64_t at = c * kChunk;
        stale.chunk_bytes = sizes[c / 4 % sizes.size()];
        if (at % stale.chunk_bytes != 0) stale.chunk_bytes = kChunk;
        const DiskChunk here{at / stale.chunk_bytes};
        stale.superblock_chunks = {here, DiskChunk{here.value + 1}};
        stale.features.refuse = 0;
        Put(stale, at, /*damaged=*/c % 3 == 1);
        stale.features.refuse = 1;
        Put(stale, at + kSuperblockBytes, /*damaged=*/c % 3 == 2);
      }
    }
  }

  // Everywhere in the space that will be the region.
  void FillWithStale(std::vector<DiskExtent>& region) {
    const std::string fresh = Copy(disk_, "fresh");
    ASSERT_NO_FATAL_FAILURE(Stop("released"));
    region = RegionOf(disk_);
    const Superblock likely = Found();
    Run("cp " + fresh + " source");
    ASSERT_NO_FATAL_FAILURE(PlantStale(region, likely));
  }

  void MoveSuperblocks(const Superblock& superblock) {
    auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadWrite);
    ASSERT_TRUE(device.has_value());
    const auto opened =
        RunInline(OpenMigration(JobOn(*device), superblock, false));
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    for (const DiskChunk chunk : superblock.superblock_chunks) {
      const Status moved = RunInline(opened->store->MoveMetadata(chunk));
      ASSERT_TRUE(moved.has_value()) << moved.error().message;
    }
  }

  static constexpr uint64_t kFewReads = 60;  // superblocks, anchors, tables

 private:
  Job JobOn(BlockDevice& device) {
    return Job{disk_, device, {}, stops_, progress_, 32};
  }

  UniqueFd fd_;
  StopPoints stops_;
  Progress progress_{stderr, Progress::Style::kSilent};
};

TEST_F(LocateTest, OtherMigrationsSuperblocksAreNotFoundInTheNewRegion) {
  std::vector<DiskExtent> region;
  ASSERT_NO_FATAL_FAILURE(FillWithStale(region));
  ASSERT_NO_FATAL_FAILURE(ExpectNothing());
  for (const char* stop : {"region-allocated", "map-created"}) {
    SCOPED_TRACE(stop);
    ASSERT_NO_FATAL_FAILURE(Stop(stop));
    ASSERT_NO_FATAL_FAILURE(ExpectNothing());
  }
  ASSERT_NO_FATAL_FAILURE(Stop("released"));
  EXPECT_EQ(RegionOf(disk_), region) << "the stale ones are not in its way";
  const Uuid id = Found().migration_id;
  ASSERT_NE(id, (Uuid{}));
  for (const char* stop : {"staged", "relocated"}) {
    ASSERT_NO_FATAL_FAILURE(Stop(stop));
    EXPECT_EQ(Found().migration_id, id) << stop;
  }
  const std::string relocated = Copy(disk_, "relocated");
  Status status = RunMigrate(disk_);
  ASSERT_TRUE(status.has_value()) << status.error().message;
  ExpectArmed(disk_);
  status = RunRollback(disk_);
  ASSERT_TRUE(status.has_value()) << status.error().message;
  ExpectSource(disk_, relocated);
  EXPECT_EQ(Found().migration_id, id);
  EXPECT_EQ(Found().phase, Phase::kParked);
  status = RunReturn(disk_);
  ASSERT_TRUE(status.has_value()) << status.error().message;
  ExpectArmed(disk_);
}

// The next one gets the same file system's space, and no bytes are cleared.
TEST_F(LocateTest, WhatWasForgottenIsNotFoundAgain) {
  Status status = RunMigrate(disk_);
  if (status) status = RunRollback(disk_);
  ASSERT_TRUE(status.has_value()) << status.error().message;
  const Superblock parked = Found();
  EXPECT_EQ(parked.phase, Phase::kParked);
  status = RunForget();
  ASSERT_TRUE(status.has_value()) << status.error().message;
  ASSERT_NO_FATAL_FAILURE(ExpectNothing());
  ExpectFilesIntact(disk_);
  ASSERT_NO_FATAL_FAILURE(Stop("map-created"));
  ASSERT_NO_FATAL_FAILURE(ExpectNothing());
  ASSERT_NO_FATAL_FAILURE(Stop("released"));
  EXPECT_EQ(Found().phase, Phase::kReleased);
  EXPECT_NE(Found().migration_id, parked.migration_id);
}

TEST_F(LocateTest, SuperblocksThatHaveMovedAreFoundAmongStaleOnes) {
  std::vector<DiskExtent> region;
  ASSERT_NO_FATAL_FAILURE(FillWithStale(region));
  ASSERT_NO_FATAL_FAILURE(Stop("released"));
  EXPECT_EQ(RegionOf(disk_), region);
  const Superblock before = Found();
  uint64_t reads = 0;
  ASSERT_TRUE(Find(&reads).has_value());
  EXPECT_LT(reads, kFewReads);
  ASSERT_NO_FATAL_FAILURE(MoveSuperblocks(before));
  const Superblock after = Found();
  EXPECT_EQ(after.migration_id, before.migration_id);
  EXPECT_NE(after.superblock_chunks, before.superblock_chunks);
}

TEST_F(LocateTest, TagOfAnotherMigrationLeadsToNothing) {
  ASSERT_NO_FATAL_FAILURE(Stop("released"));
  const Superblock before = Found();
  RegionTag tag{before.chunk_bytes, {}, before.superblock_chunks};
  ASSERT_TRUE(WriteRegionTag(disk_, kRoot, kRegionFileName, tag).has_value());
  const auto located = Find();
  ASSERT_TRUE(located.has_value()) << located.error().message;
  EXPECT_FALSE(located->superblock.has_value());
}

// A parked system may be behind it.
TEST_F(LocateTest, DamageToWhatTheTagLeadsToIsAnError) {
  ASSERT_NO_FATAL_FAILURE(Stop("released"));
  const Superblock before = Found();
  for (const DiskChunk chunk : before.superblock_chunks) {
    Put(before, chunk.value * kChunk, /*damaged=*/true);
    Put(before, chunk.value * kChunk + kSuperblockBytes, /*damaged=*/true);
  }
  EXPECT_EQ(Find().error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace bootstream
