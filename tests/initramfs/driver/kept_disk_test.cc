#include "initramfs/driver/kept_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace bootstream {
namespace {

// A FIFO stands for a disk on which a request takes its time.
class KeptDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/bootstream-test.XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    const std::string path = directory_ + "/disk";
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    disk_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    proc_.reset(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(disk_ && proc_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  UniqueFd OpenIt() {
    auto fd = OpenForThisWorker(disk_.get(), proc_.get());
    EXPECT_TRUE(fd) << fd.error().message;
    return fd ? std::move(*fd) : UniqueFd();
  }

  // Whether the next worker would have to wait.
  bool IsHeld() {
    const std::string path = "/proc/self/fd/" + std::to_string(disk_.get());
    const UniqueFd other(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return ::fcntl(other.get(), F_OFD_SETLK, &lock) != 0;
  }

  std::string directory_;
  UniqueFd disk_;
  UniqueFd proc_;
};

TEST_F(KeptDiskTest, TheNextWorkerWaitsUntilTheLastHasLetGo) {
  UniqueFd first = OpenIt();
  EXPECT_TRUE(IsHeld());
  first.reset();
  EXPECT_FALSE(IsHeld());
  EXPECT_TRUE(OpenIt());
}

TEST_F(KeptDiskTest, ARequestUnderWayHoldsTheDiskAfterItsDescriptorIsClosed) {
  io_uring ring{};
  if (::io_uring_queue_init(4, &ring, 0) != 0) GTEST_SKIP() << "no io_uring";
  UniqueFd first = OpenIt();
  char byte = 0;
  io_uring_sqe* sqe = ::io_uring_get_sqe(&ring);
  ::io_uring_prep_read(sqe, first.get(), &byte, 1, 0);
  ASSERT_EQ(::io_uring_submit(&ring), 1);
  first.reset();
  EXPECT_TRUE(IsHeld());
  ASSERT_EQ(::write(disk_.get(), "x", 1), 1);
  io_uring_cqe* cqe = nullptr;
  ASSERT_EQ(::io_uring_wait_cqe(&ring, &cqe), 0);
  EXPECT_EQ(cqe->res, 1);
  ::io_uring_cqe_seen(&ring, cqe);
  ::io_uring_queue_exit(&ring);
  EXPECT_TRUE(OpenIt());  // waits for the last of it
}

}  // namespace
}  // namespace bootstream
