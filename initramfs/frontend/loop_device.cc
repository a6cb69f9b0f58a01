#include "initramfs/frontend/loop_device.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <thread>

#include "blockmap/base/types.h"
#include "blockmap/base/unique_fd.h"
#include "initramfs/frontend/kernel_device.h"

namespace bootstream {
namespace {

constexpr auto kReleaseTimeout = std::chrono::seconds(10);
constexpr int kAttemptsMax = 64;

// The device node; made where nobody does that (a container's /dev).
Result<UniqueFd> OpenNode(const std::string& name, int number) {
  const std::string path = DevicePath(name);
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd && errno == ENOENT) {
    const dev_t device = makedev(LOOP_MAJOR, static_cast<unsigned>(number));
    if (::mknod(path.c_str(), S_IFBLK | 0600, device) != 0 && errno != EEXIST) {
      return ErrnoError(errno, "mknod " + path);
    }
    fd.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  }
  if (!fd) return ErrnoError(errno, path);
  return fd;
}

Status Clear(int fd, const std::string& name) {
  if (::ioctl(fd, LOOP_CLR_FD, 0) == 0 || errno == ENXIO) return OkStatus();
  return ErrnoError(errno, "detach " + DevicePath(name));
}

loop_config ConfigOf(int fd, const LoopOptions& options) {
  loop_config config{};
  config.fd = static_cast<__u32>(fd);
  config.block_size = kSectorBytes;
  config.info.lo_offset = options.offset_bytes;
  config.info.lo_sizelimit = options.size_bytes;
  config.info.lo_flags = LO_FLAGS_DIRECT_IO;
  if (options.read_only) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  return config;
}

// Put `name` on its file.  False: somebody else was given the same one.
Result<bool> Configure(const std::string& name, int number,
                       const loop_config& config) {
  const auto node = OpenNode(name, number);
  if (!node) return node.error();
  if (::ioctl(node->get(), LOOP_CONFIGURE, &config) != 0) {
    if (errno == EBUSY) return false;
    return ErrnoError(errno, "attach " + DevicePath(name));
  }
  const auto direct = ReadDeviceAttribute(name, "loop/dio");
  if (direct && *direct == "1") return true;
  if (auto s = Clear(node->get(), name); !s) return s.error();
  return Error{ErrorCode::kUnsupported,
               DevicePath(name) + " refuses direct I/O"};
}

}  // namespace

Result<std::string> AttachLoop(int fd, const LoopOptions& options) {
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) {
    return Error{ErrorCode::kUnsupported,
                 ErrnoError(errno, "/dev/loop-control").message +
                     "; load the kernel module loop"};
  }
  const loop_config config = ConfigOf(fd, options);
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return ErrnoError(errno, "find a free loop device");
    std::string name = "loop" + std::to_string(number);
    if (auto s = GiveNotice(options.notice, name, true); !s) return s.error();
    const auto attached = Configure(name, number, config);
    if (attached && *attached) return name;
    (void)GiveNotice(options.notice, name, false);
    if (!attached) return attached.error();
  }
  return Error{ErrorCode::kUnavailable,
               "every free loop device is taken by somebody else"};
}

Status DetachLoop(int dev, const std::string& name) {
  {
    const auto fd = ClaimAndFlushDevice(dev, name);
    if (!fd) return fd.error();
    if (auto s = Clear(fd->get(), name); !s) return s;
  }
  // Gone with the last descriptor: udev may hold one for a moment.
  const auto deadline = std::chrono::steady_clock::now() + kReleaseTimeout;
  while (ReadDeviceAttribute(name, "loop/backing_file")) {
    if (std::chrono::steady_clock::now() > deadline) {
      return Error{ErrorCode::kUnavailable,
                   DevicePath(name) + " is still held open by somebody"};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return OkStatus();
}

Status AbandonLoop(const std::string& name) {
  const UniqueFd fd(::open(DevicePath(name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, DevicePath(name));
  return Clear(fd.get(), name);
}

std::vector<std::string> FindLoops(const std::string& path) {
  std::vector<std::string> found;
  struct Close {
    void operator()(DIR* dir) const { ::closedir(dir); }
  };
  const std::unique_ptr<DIR, Close> dir(::opendir("/sys/block"));
  if (!dir) return found;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (!name.starts_with("loop")) continue;
    const auto backing = ReadDeviceAttribute(name, "loop/backing_file");
    if (backing && *backing == path) found.push_back(name);
  }
  return found;
}

}  // namespace bootstream
