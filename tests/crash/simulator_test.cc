#include "tests/crash/simulator.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/task.h"
#include "tests/crash/target_model.h"

namespace bootstream {
namespace {

constexpr uint64_t kDataAt = uint64_t{64} << 10;
constexpr uint64_t kDataBytes = uint64_t{3} * kBlockBytes;

// Writes data, then a sector that says that the data is there; flushes between
// them, or forgets to.
class Toy final : public Workload {
 public:
  explicit Toy(bool flushes) : flushes_(flushes) {}
  std::vector<std::byte> Base() override {
    return std::vector<std::byte>(2 * kDataAt);
  }
  std::string Run(RecordingDevice& device) override {
    const Status status = RunInline(WriteAll(device));
    return status ? "" : status.error().message;
  }
  Tally TallyOf(std::span<const std::byte>,
                const Recording& recording) const override {
    return {{"flushes", recording.flushes.size()}};
  }
  std::string Recover(BlockDevice&, const Cut&) override { return ""; }
  std::string Check(ScratchDisk& disk, const Cut&) override {
    if (disk.bytes()[0] == std::byte{0}) return "";
    for (uint64_t at = 0; at < kDataBytes; ++at) {
      if (disk.bytes()[kDataAt + at] != std::byte{7}) return "data is missing";
    }
    return "";
  }

 private:
  Task<Status> WriteAll(BlockDevice& device) {
    AlignedBuffer data(kDataBytes);
    std::memset(data.data(), 7, data.size());
    auto s = co_await device.Write(kDataAt, data.span());
    if (s && flushes_) s = co_await device.Flush();
    if (!s) co_return s;
    s = co_await device.Write(0, data.span().first(kSectorBytes));
    if (!s) co_return s;
    co_return co_await device.Flush();
  }
  bool flushes_;
};

Simulator::Figures Simulate(bool flushes) {
  Simulator::Options options;
  options.violations_shown = 0;
  Simulator simulator(options);
  const auto make = [flushes](uint64_t) {
    return std::make_unique<Toy>(flushes);
  };
  simulator.RunRound({"toy", make}, 0);
  return simulator.phases().front().figures;
}

TEST(SimulatorTest, ForgottenFlushIsCaught) {
  EXPECT_GT(Simulate(false).violations, 10U);
}

TEST(SimulatorTest, RightOrderHasNoViolations) {
  const auto figures = Simulate(true);
  EXPECT_EQ(figures.violations, 0U);
  EXPECT_EQ(figures.points, 3U);  // two flushes and the end
  EXPECT_GT(figures.distinct, 50U);
  EXPECT_EQ(figures.whole, 2U);
  EXPECT_EQ(figures.enough, 1U);
  EXPECT_EQ(figures.fewer, 0U);
}

TEST(SimulatorTest, DiskThatTwoPhasesLeaveCountsOnce) {
  Simulator simulator({});
  const auto make = [](uint64_t) { return std::make_unique<Toy>(true); };
  simulator.RunRound({"one", make}, 0);
  const uint64_t one = simulator.distinct();
  EXPECT_EQ(one, simulator.phases()[0].figures.distinct);
  simulator.RunRound({"two", make}, 0);
  EXPECT_EQ(simulator.phases()[1].figures.distinct, one);
  EXPECT_EQ(simulator.distinct(), one);
}

TEST(SimulatorTest, PhaseThatDoesNotDoWhatItMustIsAViolation) {
  Simulator::Options options;
  options.violations_shown = 0;
  Simulator simulator(options);
  const auto make = [](uint64_t) { return std::make_unique<Toy>(true); };
  simulator.RunRound({"does", make, {"flushes"}}, 0);
  simulator.RunRound({"does not", make, {"flushes", "moves"}}, 0);
  simulator.RunRound({"not yet", make, {"moves"}, 2}, 0);
  simulator.JudgePhases();
  EXPECT_EQ(simulator.phases()[0].figures.violations, 0U);
  EXPECT_EQ(simulator.phases()[1].figures.violations, 1U);
  EXPECT_EQ(simulator.phases()[2].figures.violations, 0U);
}

Recording::Write MakeWrite(uint64_t sector, uint64_t sectors, uint64_t clock,
                           uint8_t value) {
  return {sector * kSectorBytes,
          std::vector<std::byte>(sectors * kSectorBytes, std::byte{value}),
          clock};
}

CrashPoint PointOf(const Recording& recording) {
  return CrashPointsOf(recording).front();
}

// Where a state differs from a disk of zeroes, and how.
std::set<std::pair<uint64_t, std::byte>> DiskOf(const CrashState& state) {
  std::map<uint64_t, std::byte> sectors;
  for (const auto& piece : state.pieces) {
    for (uint64_t at = 0; at < piece.data.size(); at += kSectorBytes) {
      sectors[piece.offset + at] = piece.data[at];
    }
  }
  return {sectors.begin(), sectors.end()};
}

class CrashStatesTest : public testing::Test {
 protected:
  CrashStates StatesOf(const CrashPoint& point) const {
    return CrashStates(point, disk_, 1);
  }
  // How many different disks the numbers lead to.
  size_t CountDisks(const CrashPoint& point, uint64_t wanted) const {
    const CrashStates states = StatesOf(point);
    std::set<std::set<std::pair<uint64_t, std::byte>>> found;
    for (uint64_t i = 0; i < states.NumbersFor(wanted); ++i) {
      found.insert(DiskOf(states.Make(i)));
    }
    return found.size();
  }
  std::vector<std::byte> disk_ =
      std::vector<std::byte>(uint64_t{64} * kSectorBytes);
};

TEST_F(CrashStatesTest, SmallWindowIsTriedWhole) {
  Recording recording;
  recording.writes = {MakeWrite(0, 2, 1, 1), MakeWrite(9, 2, 2, 2)};
  recording.end = 3;
  const CrashPoint point = PointOf(recording);
  EXPECT_EQ(StatesOf(point).disk_count(), 16U);
  EXPECT_EQ(StatesOf(point).NumbersFor(50), 16U);
  EXPECT_EQ(CountDisks(point, 50), 16U);
}

TEST_F(CrashStatesTest, MiddlingWindowLeadsToAllItsDisks) {
  for (uint64_t sectors = 6; sectors <= 12; ++sectors) {
    Recording recording;
    recording.writes = {MakeWrite(0, sectors - 3, 1, 1),
                        MakeWrite(40, 3, 2, 2)};
    recording.end = 3;
    EXPECT_EQ(CountDisks(PointOf(recording), 50), size_t{1} << sectors);
  }
}

TEST_F(CrashStatesTest, LargeWindowLeadsToAsManyDisksAsAreWanted) {
  Recording recording;
  recording.writes = {MakeWrite(0, 13, 1, 1)};
  recording.end = 2;
  EXPECT_FALSE(StatesOf(PointOf(recording)).disk_count());
  EXPECT_GE(CountDisks(PointOf(recording), 50), 50U);
}

TEST_F(CrashStatesTest, OfWritesThatOverlapEitherMayWin) {
  Recording recording;
  recording.writes = {MakeWrite(0, 1, 1, 1), MakeWrite(0, 2, 2, 2)};
  recording.end = 3;
  EXPECT_EQ(StatesOf(PointOf(recording)).disk_count(), 6U);
  EXPECT_EQ(CountDisks(PointOf(recording), 50), 6U);
}

TEST_F(CrashStatesTest, SectorThatStaysAsItIsMakesNoDifference) {
  Recording recording;
  recording.writes = {MakeWrite(0, 8, 1, 0), MakeWrite(8, 2, 2, 1)};
  recording.end = 3;
  EXPECT_EQ(StatesOf(PointOf(recording)).disk_count(), 4U);
}

TEST_F(CrashStatesTest, StateIsTornIfAWriteArrivesInPart) {
  Recording recording;
  recording.writes = {MakeWrite(0, 2, 1, 1), MakeWrite(9, 1, 2, 2)};
  recording.end = 3;
  const CrashPoint point = PointOf(recording);
  const CrashStates states = StatesOf(point);
  for (uint64_t i = 0; i < states.NumbersFor(50); ++i) {
    const auto disk = DiskOf(states.Make(i));
    const size_t arrived = disk.count({0, std::byte{1}}) +
                           disk.count({kSectorBytes, std::byte{1}});
    EXPECT_EQ(states.Make(i).torn, arrived == 1);
  }
}

TEST_F(CrashStatesTest, FlushCoversWhatHadCompletedBeforeIt) {
  Recording recording;
  recording.writes = {MakeWrite(0, 1, 1, 1), MakeWrite(1, 1, 3, 2),
                      MakeWrite(2, 1, 5, 3)};
  recording.flushes = {{1, 4}};  // submitted while the second was under way
  recording.end = 6;
  const auto points = CrashPointsOf(recording);
  ASSERT_EQ(points.size(), 2U);
  EXPECT_EQ(points[0].durable, 0U);
  EXPECT_EQ(points[0].window.size(), 2U) << "the third came later";
  EXPECT_EQ(points[1].durable, 1U);
  EXPECT_EQ(points[1].window.size(), 2U);
}

TEST_F(CrashStatesTest, LargeWindowBeginsWithNoneAllAndItsBeginnings) {
  Recording recording;
  for (uint64_t i = 0; i < 6; ++i) {
    recording.writes.push_back(MakeWrite(8 * i, 8, i + 1, 1));
  }
  recording.end = 9;
  const CrashPoint point = PointOf(recording);
  const CrashStates states = StatesOf(point);
  EXPECT_TRUE(states.Make(0).pieces.empty());
  EXPECT_EQ(states.Make(1).pieces.size(), 6U);
  for (uint64_t number = 2; number <= 6; ++number) {
    const CrashState state = states.Make(number);
    EXPECT_EQ(state.pieces.size(), number - 1);
    EXPECT_FALSE(state.torn);
  }
}

class TargetModelTest : public testing::Test {
 protected:
  // Blocks of 0, of 1 ...
  static std::vector<std::byte> Block(uint8_t value) {
    return std::vector<std::byte>(kBlockBytes, std::byte{value});
  }
  bool Allows(const std::vector<std::byte>& content, uint64_t clock,
              bool tore = false) const {
    return model_.Allows(0, content, clock, tore);
  }
  TargetModel model_{Block(0)};
};

TEST_F(TargetModelTest, WhatIsNotFlushedMayBeThereOrNot) {
  model_.EndWrite(model_.BeginWrite(1, 0, Block(1)), 2, false);
  EXPECT_TRUE(Allows(Block(0), 5));
  EXPECT_TRUE(Allows(Block(1), 5));
  EXPECT_FALSE(Allows(Block(2), 5));
}

TEST_F(TargetModelTest, WhatIsFlushedIsThereOnceTheFlushHasReturned) {
  model_.EndWrite(model_.BeginWrite(1, 0, Block(1)), 2, false);
  const uint64_t flush = model_.BeginFlush();
  model_.EndWrite(model_.BeginWrite(3, 0, Block(2)), 4, false);
  model_.EndFlush(flush, 6);
  EXPECT_TRUE(Allows(Block(0), 6)) << "it has not returned yet";
  EXPECT_FALSE(Allows(Block(0), 7));
  EXPECT_TRUE(Allows(Block(1), 7));
  EXPECT_TRUE(Allows(Block(2), 7));
}

TEST_F(TargetModelTest, MixtureIsAllowedOnlyIfTheDiskTore) {
  model_.EndWrite(model_.BeginWrite(1, 0, Block(1)), 2, false);
  auto mixed = Block(0);
  std::memset(mixed.data(), 1, kSectorBytes);
  EXPECT_FALSE(Allows(mixed, 5));
  EXPECT_TRUE(Allows(mixed, 5, true));
  std::memset(mixed.data(), 1, 100 + kSectorBytes);
  EXPECT_FALSE(Allows(mixed, 5, true)) << "inside a sector nothing tears";
}

TEST_F(TargetModelTest, FuaIsDurableWhenItReturns) {
  model_.EndWrite(model_.BeginWrite(1, 0, Block(1)), 2, true);
  EXPECT_TRUE(Allows(Block(0), 2));
  EXPECT_FALSE(Allows(Block(0), 3));
}

}  // namespace
}  // namespace bootstream
