#include "blockmap/disk/loop_mount.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

namespace bootstream {
namespace {

// Others may take the free device between the two calls.
constexpr int kLoopAttempts = 64;

struct Loop {
  UniqueFd fd;
  std::string name;  // in /dev
};

Result<Loop> AttachLoop(int disk, ByteExtent partition) {
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return ErrnoError(errno, "open /dev/loop-control");
  for (int attempt = 0; attempt < kLoopAttempts; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return ErrnoError(errno, "find a free loop device");
    Loop loop;
    loop.name = "loop" + std::to_string(number);
    const std::string path = "/dev/" + loop.name;
    loop.fd.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!loop.fd) return ErrnoError(errno, "open " + path);
    loop_config config{};
    config.fd = static_cast<uint32_t>(disk);
    config.info.lo_offset = partition.offset;
    config.info.lo_sizelimit = partition.size;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (::ioctl(loop.fd.get(), LOOP_CONFIGURE, &config) == 0) return loop;
    if (errno != EBUSY) return ErrnoError(errno, "set up " + path);
  }
  return Error{ErrorCode::kUnavailable, "no loop device is free"};
}

Status EnterOwnNamespace() {
  if (::unshare(CLONE_NEWNS) != 0) {
    return ErrnoError(errno, "make a mount namespace (are you root?)");
  }
  // What others unmount must go here too, or it stays in use by us.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
    return ErrnoError(errno, "keep our mounts to ourselves");
  }
  return OkStatus();
}

Result<std::string> MakeDirectory() {
  std::string name = "/run/bootstream-XXXXXX";
  if (::mkdtemp(name.data()) != nullptr) return name;
  name = "/tmp/bootstream-XXXXXX";
  if (::mkdtemp(name.data()) != nullptr) return name;
  return ErrnoError(errno, "make a directory in /run or /tmp");
}

}  // namespace

LoopMount::LoopMount(LoopMount&& other) noexcept
    : disk_(std::move(other.disk_)),
      loop_(std::move(other.loop_)),
      loop_name_(std::move(other.loop_name_)),
      directory_(std::exchange(other.directory_, {})),
      mounted_(std::exchange(other.mounted_, false)) {}

LoopMount::~LoopMount() {
  if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
  RemoveDirectory();
}

void LoopMount::RemoveDirectory() {
  if (!directory_.empty()) ::rmdir(directory_.c_str());
  directory_.clear();
}

Result<LoopMount> LoopMount::MountExt4(const std::string& disk,
                                       ByteExtent partition) {
  UniqueFd fd(::open(disk.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + disk);
  if (auto s = EnterOwnNamespace(); !s) return s.error();
  auto loop = AttachLoop(fd.get(), partition);
  if (!loop) return loop.error();
  LoopMount mount(std::move(fd), std::move(loop->fd), std::move(loop->name));
  if (auto s = mount.Mount(); !s) {
    return Annotate(s.error(), "mount the file system at byte " +
                                   std::to_string(partition.offset) + " of " +
                                   disk);
  }
  return mount;
}

Status LoopMount::Mount() {
  const std::string device = "/dev/" + loop_name_;
  auto directory = MakeDirectory();
  if (!directory) return directory.error();
  directory_ = *directory;
  if (::mount(device.c_str(), directory_.c_str(), "ext4",
              MS_NOATIME | MS_NODEV | MS_NOEXEC | MS_NOSUID, "") != 0) {
    return ErrnoError(errno, device);
  }
  mounted_ = true;
  return OkStatus();
}

void LoopMount::UseReserve() {
  const std::string knob = "/sys/fs/ext4/" + loop_name_ + "/reserved_clusters";
  const UniqueFd fd(::open(knob.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return;
  // Without it the file gets a little less.
  [[maybe_unused]] const ssize_t done = ::write(fd.get(), "0", 1);
}

Status LoopMount::Unmount() {
  if (::umount2(directory_.c_str(), 0) != 0) {
    return ErrnoError(errno, "unmount " + directory_);
  }
  mounted_ = false;
  RemoveDirectory();
  if (::fsync(loop_.get()) != 0) return ErrnoError(errno, "flush loop device");
  if (::ioctl(loop_.get(), LOOP_CLR_FD) != 0) {
    return ErrnoError(errno, "detach loop device");
  }
  loop_.reset();
  if (::fsync(disk_.get()) != 0) return ErrnoError(errno, "flush the disk");
  struct stat info {};
  if (::fstat(disk_.get(), &info) == 0 && S_ISBLK(info.st_mode) &&
      ::ioctl(disk_.get(), BLKFLSBUF) != 0) {
    return ErrnoError(errno, "BLKFLSBUF");
  }
  disk_.reset();
  return OkStatus();
}

}  // namespace bootstream
