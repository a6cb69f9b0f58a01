#include <functional>
#include <map>

#include "bootagent/stage.h"
#include "tests/bootagent/migration_fixture.h"
#include "tests/support/crash_device.h"
#include "tests/support/faulty_device.h"

// A disk that fails once, at a read, a write or a flush of a migration or of a
// rollback: the agent says so and stops, and when it runs again it goes on from
// there, or back, as after a power cut.

namespace bootstream {
namespace {

// A disk that says that it has written `content`, and the first time has kept
// something else.
class MisrecordingDevice final : public BlockDevice {
 public:
  MisrecordingDevice(CrashDevice& next, std::span<const std::byte> content)
      : next_(next), content_(content) {}

  void Submit(IoRequest& request) override {
    const uint64_t offset = request.offset;
    const bool kept_wrong = !has_erred_ && IsContent(request);
    next_.Submit(request);  // completes
    if (!kept_wrong) return;
    has_erred_ = true;
    std::vector<std::byte> sector(kSectorBytes);
    next_.image().Read(offset, sector);
    sector.front() ^= std::byte{1};
    next_.image().Write(offset, sector);
  }
  uint64_t size_bytes() const override { return next_.size_bytes(); }
  bool has_erred() const { return has_erred_; }

 private:
  bool IsContent(const IoRequest& request) const {
    return request.op == IoRequest::Op::kWrite &&
           request.size == content_.size() &&
           std::memcmp(request.data, content_.data(), content_.size()) == 0;
  }

  CrashDevice& next_;
  std::span<const std::byte> content_;
  bool has_erred_ = false;
};

class AgentBadDiskTest : public MigrationTest {
 protected:
  using Fault = void (FaultyDevice::*)(uint64_t);

  void SetUp() override {
    MigrationTest::SetUp();
    if (IsSkipped()) return;
    const auto status = RunMigrate(disk_, "released");
    ASSERT_EQ(status.error().code, ErrorCode::kUnavailable)
        << status.error().message;
    region_ = RegionOf(disk_);
    const auto loaded = Load(disk_);
    std::vector<std::byte> bytes(loaded.size());
    std::memcpy(bytes.data(), loaded.data(), loaded.size());
    released_.emplace(std::move(bytes));
  }

  // `count` numbers below `total`, spread evenly, the first and the last ones
  // among them.
  static std::vector<uint64_t> Spread(uint64_t total, uint64_t count) {
    std::vector<uint64_t> numbers;
    for (uint64_t i = 0; i < count; ++i) {
      numbers.push_back(i * (total - 1) / (count - 1));
    }
    return numbers;
  }

  // Somewhere in the kernel, by far the largest file of the boot set.
  std::span<const std::byte> MiddleBootChunk() const {
    const auto chunks = BootChunks(access_->manifest());
    return access_->source().image().subspan(
        chunks[chunks.size() / 2].value * kChunk, kChunk);
  }
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
  bool IsOurs(uint64_t chunk) const {
    return std::ranges::any_of(region_, [&](const DiskExtent& e) {
      return chunk >= e.first && chunk < e.end();
    });
  }
  // The first home of a boot chunk in which the source has something, and that
  // is no table.
  uint64_t FirstHomeOfTheSource() const {
    for (const ImageChunk chunk : BootChunks(access_->manifest())) {
      if (chunk.value > 0 && !IsOurs(chunk.value)) return chunk.value;
    }
    return 0;
  }
  // Chunks of the region that are written once and as a whole, so that the map
  // is in none of them.
  std::vector<uint64_t> PlacesWritten(
      CrashDevice& disk, const std::function<Status(BlockDevice&)>& run) {
    std::map<uint64_t, int> writes;
    FaultyDevice counted(disk);
    counted.Watch([&](const IoRequest& request) {
      if (request.op != IoRequest::Op::kWrite) return;
      const uint64_t chunk = request.offset / kChunk;
      const bool whole = request.size == kChunk;
      if (IsOurs(chunk)) writes[chunk] += whole ? 1 : 1000;
    });
    const Status ran = run(counted);
    EXPECT_TRUE(ran) << ran.error().message;
    std::vector<uint64_t> places;
    for (const auto& [chunk, count] : writes) {
      if (count == 1) places.push_back(chunk);
    }
    EXPECT_GT(places.size(), 12U);
    return places;
  }
  void ExpectSourceBack(const CrashDevice& device) {
    std::vector<std::byte> now(kChunk), then(kChunk);
    for (uint64_t c = 0; c * kChunk < kDiskBytes; ++c) {
      if (IsOurs(c)) continue;
      const size_t size = std::min<uint64_t>(kChunk, kDiskBytes - c * kChunk);
      device.image().Read(c * kChunk, std::span(now).first(size));
      released_->Read(c * kChunk, std::span(then).first(size));
      ASSERT_EQ(std::memcmp(now.data(), then.data(), size), 0)
          << "source chunk " << c;
    }
  }
  // It stopped with one sentence, or did not need what failed.
  static void ExpectOneSentence(const Status& status) {
    if (status) return;
    EXPECT_NE(status.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(status.error().code, ErrorCode::kInvalid);
    EXPECT_EQ(status.error().message.find('\n'), std::string::npos)
        << status.error().message;
  }
  void MigrateWith(Fault fault, uint64_t n) {
    CrashDevice disk(*released_);
    FaultyDevice faulty(disk);
    (faulty.*fault)(n);
    const Status failed = MigrateOn(faulty, disk_);
    EXPECT_EQ(faulty.failure_count(), 1U);
    ExpectOneSentence(failed);
    CrashDevice back(disk.image());
    const Status went_on = MigrateOn(faulty, disk_);
    ASSERT_TRUE(went_on) << went_on.error().message;
    ASSERT_NO_FATAL_FAILURE(ExpectBootSetHome(disk));
    const Status went_back = RollbackOn(back, disk_);
    ASSERT_TRUE(went_back) << went_back.error().message;
    ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(back));
  }
  // It goes around the place, or it stops where that is needed, each time, and
  // can go back all the same, or on when the disk is better.
  void MigrateWithBadPlace(uint64_t chunk) {
    CrashDevice disk(*released_);
    FaultyDevice faulty(disk);
    faulty.FailWritesTo(chunk * kChunk, kChunk);
    const Status first = MigrateOn(faulty, disk_);
    const Status second = MigrateOn(faulty, disk_);
    EXPECT_EQ(first.has_value(), second.has_value());
    if (second) {
      ++went_around_;
      ASSERT_NO_FATAL_FAILURE(ExpectBootSetHome(disk));
    } else {
      EXPECT_EQ(second.error().code, ErrorCode::kIo);
      EXPECT_NE(second.error().message.find("byte "), std::string::npos)
          << second.error().message;
      ExpectOneSentence(second);
    }
    CrashDevice mended(disk.image());
    const Status went_back = RollbackOn(faulty, disk_);
    ASSERT_TRUE(went_back) << went_back.error().message;
    ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(disk));
    const Status went_on = MigrateOn(mended, disk_);
    ASSERT_TRUE(went_on) << went_on.error().message;
    ASSERT_NO_FATAL_FAILURE(ExpectBootSetHome(mended));
  }
  void RollBackWith(const DiskImage& armed, Fault fault, uint64_t n) {
    CrashDevice disk(armed);
    FaultyDevice faulty(disk);
    (faulty.*fault)(n);
    const Status failed = RollbackOn(faulty, disk_);
    EXPECT_EQ(faulty.failure_count(), 1U);
    ExpectOneSentence(failed);
    const Status went_back = RollbackOn(faulty, disk_);
    ASSERT_TRUE(went_back) << went_back.error().message;
    ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(disk));
  }

  std::optional<DiskImage> released_;
  std::vector<DiskExtent> region_;
  int went_around_ = 0;
};

TEST_F(AgentBadDiskTest, MigrationStopsAndGoesOnOrBack) {
  CrashDevice disk(*released_);
  FaultyDevice counted(disk);
  ASSERT_TRUE(MigrateOn(counted, disk_));
  for (const uint64_t n : Spread(counted.read_count(), 16)) {
    SCOPED_TRACE("read " + std::to_string(n));
    ASSERT_NO_FATAL_FAILURE(MigrateWith(&FaultyDevice::FailRead, n));
  }
  for (const uint64_t n : Spread(counted.write_count(), 24)) {
    SCOPED_TRACE("write " + std::to_string(n));
    ASSERT_NO_FATAL_FAILURE(MigrateWith(&FaultyDevice::FailWrite, n));
  }
  for (const uint64_t n : Spread(counted.flush_count(), 12)) {
    SCOPED_TRACE("flush " + std::to_string(n));
    ASSERT_NO_FATAL_FAILURE(MigrateWith(&FaultyDevice::FailFlush, n));
  }
}

TEST_F(AgentBadDiskTest, RollbackStopsAndGoesOn) {
  CrashDevice armed(*released_);
  ASSERT_TRUE(MigrateOn(armed, disk_));
  CrashDevice disk(armed.image());
  FaultyDevice counted(disk);
  ASSERT_TRUE(RollbackOn(counted, disk_));
  for (const uint64_t n : Spread(counted.read_count(), 12)) {
    SCOPED_TRACE("read " + std::to_string(n));
    ASSERT_NO_FATAL_FAILURE(
        RollBackWith(armed.image(), &FaultyDevice::FailRead, n));
  }
  for (const uint64_t n : Spread(counted.write_count(), 16)) {
    SCOPED_TRACE("write " + std::to_string(n));
    ASSERT_NO_FATAL_FAILURE(
        RollBackWith(armed.image(), &FaultyDevice::FailWrite, n));
  }
  for (const uint64_t n : Spread(counted.flush_count(), 8)) {
    SCOPED_TRACE("flush " + std::to_string(n));
    ASSERT_NO_FATAL_FAILURE(
        RollBackWith(armed.image(), &FaultyDevice::FailFlush, n));
  }
}

TEST_F(AgentBadDiskTest, SourceChunkThatStaysUnreadableIsNamed) {
  CrashDevice disk(*released_);
  FaultyDevice faulty(disk);
  const uint64_t bad = FirstHomeOfTheSource() * kChunk + 8192;
  faulty.FailReadsOf(bad, 512);
  for (int i = 0; i < 2; ++i) {
    const Status failed = MigrateOn(faulty, disk_);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ErrorCode::kIo) << failed.error().message;
    EXPECT_NE(failed.error().message.find(
                  "byte " + std::to_string(bad / kChunk * kChunk)),
              std::string::npos)
        << failed.error().message;
    ExpectOneSentence(failed);
    ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(disk)) << "nothing was changed";
  }
  CrashDevice back(disk.image());
  FaultyDevice still_faulty(back);
  still_faulty.FailReadsOf(bad, 512);
  const Status went_back = RollbackOn(still_faulty, disk_);
  ASSERT_TRUE(went_back) << went_back.error().message;
  ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(back));
  faulty.Mend();
  const Status went_on = MigrateOn(faulty, disk_);
  ASSERT_TRUE(went_on) << went_on.error().message;
  ASSERT_NO_FATAL_FAILURE(ExpectBootSetHome(disk));
}

// Where staged chunks and relocated ones go, and homes in the region.
TEST_F(AgentBadDiskTest, RegionPlaceThatTakesNoWriteLosesNothing) {
  CrashDevice disk(*released_);
  const auto places = PlacesWritten(
      disk, [&](BlockDevice& device) { return MigrateOn(device, disk_); });
  for (const uint64_t i : Spread(places.size(), 12)) {
    SCOPED_TRACE("disk chunk " + std::to_string(places[i]));
    ASSERT_NO_FATAL_FAILURE(MigrateWithBadPlace(places[i]));
  }
  EXPECT_GT(went_around_, 8);
}

TEST_F(AgentBadDiskTest, RollbackGoesAroundAPlaceThatTakesNoWrite) {
  CrashDevice armed(*released_);
  ASSERT_TRUE(MigrateOn(armed, disk_));
  CrashDevice good(armed.image());
  const auto places = PlacesWritten(
      good, [&](BlockDevice& device) { return RollbackOn(device, disk_); });
  for (const uint64_t i : Spread(places.size(), 12)) {
    SCOPED_TRACE("disk chunk " + std::to_string(places[i]));
    CrashDevice disk(armed.image());
    FaultyDevice faulty(disk);
    faulty.FailWritesTo(places[i] * kChunk, kChunk);
    const Status went_back = RollbackOn(faulty, disk_);
    ASSERT_TRUE(went_back) << went_back.error().message;
    EXPECT_GT(faulty.failure_count(), 0U);
    ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(disk));
  }
}

TEST_F(AgentBadDiskTest, StagedChunkThatReadsBackWrongStopsTheMigration) {
  CrashDevice disk(*released_);
  MisrecordingDevice misrecording(disk, MiddleBootChunk());
  const Status failed = MigrateOn(misrecording, disk_);
  EXPECT_TRUE(misrecording.has_erred());
  ASSERT_FALSE(failed) << "armed with bytes that are not the image's";
  EXPECT_EQ(failed.error().code, ErrorCode::kIo) << failed.error().message;
  CrashDevice back(disk.image());
  const Status went_on = MigrateOn(disk, disk_);
  ASSERT_TRUE(went_on) << went_on.error().message;
  ASSERT_NO_FATAL_FAILURE(ExpectBootSetHome(disk));
  const Status went_back = RollbackOn(back, disk_);
  ASSERT_TRUE(went_back) << went_back.error().message;
  ASSERT_NO_FATAL_FAILURE(ExpectSourceBack(back));
}

TEST_F(AgentBadDiskTest, ArmedDiskWithoutItsAnchorIsNotMigratedAnew) {
  CrashDevice disk(*released_);
  ASSERT_TRUE(MigrateOn(disk, disk_));
  const DiskImage armed = disk.image();
  for (const uint64_t place : AnchorCandidates(kDiskBytes)) {
    std::vector<std::byte> anchor(kAnchorBytes);
    disk.image().Read(place, anchor);
    if (!DecodeAnchor(anchor)) continue;
    for (const size_t at : {50, 2048 + 50}) anchor[at] ^= std::byte{1};
    disk.image().Write(place, anchor);
  }
  const DiskImage damaged = disk.image();
  const uint64_t writes = disk.write_count();
  for (const Status& status :
       {MigrateOn(disk, disk_), RollbackOn(disk, disk_)}) {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(status.error().message.find("damaged"), std::string::npos)
        << status.error().message;
  }
  EXPECT_EQ(disk.write_count(), writes);
}

}  // namespace
}  // namespace bootstream
