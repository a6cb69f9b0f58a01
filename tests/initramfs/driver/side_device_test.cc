#include "initramfs/driver/side_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "blockmap/disk/source_view.h"
#include "initramfs/driver/read_only_service.h"
#include "tests/support/engine_rig.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = EngineRig::kChunk;

class ReadOnlyServiceTest : public testing::Test {
 protected:
  ReadOnlyServiceTest() {
    for (size_t i = 0; i < device_.bytes().size(); ++i) {
      device_.bytes()[i] = static_cast<std::byte>(i / 7);
    }
  }
  bool ReadsRight(uint64_t offset, uint64_t size) {
    std::vector<std::byte> out(size);
    if (!RunInline(service_.Read(offset, out))) return false;
    return std::ranges::equal(out, device_.bytes().subspan(offset, size));
  }

  MemoryDevice device_{4 * kChunk};
  ReadOnlyService service_{device_};
};

TEST_F(ReadOnlyServiceTest, AnyBytesCanBeRead) {
  EXPECT_TRUE(ReadsRight(0, 4096));
  EXPECT_TRUE(ReadsRight(1, 1));
  EXPECT_TRUE(ReadsRight(511, 2));
  EXPECT_TRUE(ReadsRight(kChunk - 3, 1000));
  EXPECT_TRUE(ReadsRight(4 * kChunk - 5, 5));
}

TEST_F(ReadOnlyServiceTest, NothingCanBeWritten) {
  const std::vector<std::byte> before(device_.bytes().begin(),
                                      device_.bytes().end());
  const std::vector<std::byte> data(4096);
  for (const Status& status : {RunInline(service_.Write(0, data, false)),
                               RunInline(service_.WriteZeroes(0, 4096, false)),
                               RunInline(service_.Discard(0, 4096))}) {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kRefused);
  }
  EXPECT_TRUE(RunInline(service_.Flush()));
  EXPECT_TRUE(std::ranges::equal(before, device_.bytes()));
}

// The old system is read while the new one writes to a pinned chunk whose home
// the old one has.
TEST(SourceDeviceTest, AReadIsRightWhateverIsRelocatedMeanwhile) {
  EngineRig rig;
  SourceView view(rig.faults(), rig.store().map(), rig.store().disk_grid());
  ReadOnlyService service(view);
  AlignedBuffer out(kChunk);
  std::optional<Status> read;
  const auto run = [&]() -> Task<void> {
    read = co_await service.Read(4 * kChunk, out.span());
  };
  rig.faults().HoldOne();
  Spawn(run());
  rig.Write(4 * kChunk, kChunk, std::byte{0xee});
  ASSERT_TRUE(rig.store().map().Relocated(DiskChunk{4}));
  ASSERT_FALSE(read);
  rig.faults().LetGo();
  ASSERT_TRUE(read && *read);
  EXPECT_TRUE(std::ranges::equal(
      out.span(), std::span(rig.old_disk()).subspan(4 * kChunk, kChunk)));
}

}  // namespace
}  // namespace bootstream
