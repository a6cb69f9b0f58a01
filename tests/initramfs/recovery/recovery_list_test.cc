#include "initramfs/recovery/recovery_list.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace bootstream {
namespace {

namespace fs = std::filesystem;
using Paths = std::vector<std::string>;

TEST(RecoveryListTest, PathsInTheirOrderEachOnce) {
  EXPECT_EQ(PathsOfList("/b\n/a\n/b\n/c d\n/e*\n", {}),
            (Paths{"/b", "/a", "/c d", "/e*"}));
  EXPECT_EQ(PathsOfList("", {}), Paths{});
  EXPECT_EQ(PathsOfList("/last", {}), Paths{"/last"});
}

TEST(RecoveryListTest, OfDriversOnlyThoseThatAreHere) {
  const std::string text =
      "net=tg3 /lib/firmware/tigon\nnet=bnx2 /lib/firmware/bnx2\n";
  EXPECT_EQ(PathsOfList(text, {"tg3"}), Paths{"/lib/firmware/tigon"});
  EXPECT_EQ(PathsOfList(text, {}), Paths{});
}

TEST(RecoveryListTest, NonsenseIsPassedOver) {
  EXPECT_EQ(PathsOfList("# what\n\nrelative\nnet=\nnet=x\nnet=x \nnet=x y\n"
                        "net= /a\nNET=x /a\n /a\n",
                        {"x"}),
            Paths{});
}

TEST(RecoveryListTest, DriversAreFoundBySysfs) {
  std::string folder = testing::TempDir() + "sysfs-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const fs::path root = folder;
  EXPECT_TRUE(NetworkDrivers(folder).empty());
  fs::create_directories(root / "class/net/lo");
  fs::create_directories(root / "class/net/eth0/device");
  fs::create_directories(root / "bus/pci/drivers/r8169-driver");
  fs::create_directory_symlink(root / "bus/pci/drivers/r8169-driver",
                               root / "class/net/eth0/device/driver");
  fs::create_directory_symlink("../../../../module/r8169",
                               root / "bus/pci/drivers/r8169-driver/module");
  EXPECT_EQ(NetworkDrivers(folder),
            (std::set<std::string>{"r8169", "r8169-driver"}));
  fs::remove_all(root);
}

}  // namespace
}  // namespace bootstream
