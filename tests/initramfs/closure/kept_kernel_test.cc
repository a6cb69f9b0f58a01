#include "initramfs/closure/kept_kernel.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace bootstream {
namespace {

class KeptKernelTest : public ::testing::Test {
 protected:
  KeptKernelTest() { std::filesystem::create_directories(root() + "/boot"); }
  ~KeptKernelTest() override { std::filesystem::remove_all(root()); }

  void Put(const std::string& name) {
    std::ofstream(root() + "/boot/" + name) << name;
  }
  const std::string& root() const { return root_; }

 private:
  std::string root_ = ::mkdtemp(std::string("/tmp/kept-kernel-XXXXXX").data());
};

TEST_F(KeptKernelTest, IsTheOneOfThatReleaseWithItsInitramfs) {
  Put("vmlinuz-6.12.1");
  Put("initrd.img-6.12.1");
  Put("vmlinuz-6.12.2");
  const auto found = FindKernel(root(), "6.12.1", "root=UUID=1 quiet", "late");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->kernel, root() + "/boot/vmlinuz-6.12.1");
  EXPECT_EQ(found->initramfs, root() + "/boot/initrd.img-6.12.1");
  EXPECT_EQ(found->command_line, "root=UUID=1 quiet late");
}

TEST_F(KeptKernelTest, TheWordIsThereOnce) {
  Put("vmlinuz-1");
  Put("initrd.img-1");
  EXPECT_EQ(FindKernel(root(), "1", "late quiet", "late")->command_line,
            "late quiet");
  EXPECT_EQ(FindKernel(root(), "1", "latest", "late")->command_line,
            "latest late");
}

TEST_F(KeptKernelTest, AKernelWithoutItsInitramfsIsNone) {
  Put("vmlinuz-6.12.2");
  const auto found = FindKernel(root(), "6.12.2", "quiet", "late");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace bootstream
