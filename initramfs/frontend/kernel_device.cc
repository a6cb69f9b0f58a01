#include "initramfs/frontend/kernel_device.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "blockmap/base/types.h"
#include "initramfs/frontend/loop_device.h"

namespace bootstream {
namespace {

constexpr char kKeptName[] = "dev";

std::string AttributePath(const std::string& name,
                          const std::string& attribute) {
  return "/sys/block/" + name + "/" + attribute;
}

}  // namespace

Status GiveNotice(const DeviceNotice& notice, const std::string& name,
                  bool comes) {
  return notice ? notice(name, comes) : OkStatus();
}

std::string DevicePath(const std::string& name) { return "/dev/" + name; }

Result<std::string> ReadDeviceAttribute(const std::string& name,
                                        const std::string& attribute) {
  const std::string path = AttributePath(name, attribute);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    Error error = ErrnoError(errno, path);
    if (errno == ENOENT) error.code = ErrorCode::kNotFound;
    return error;
  }
  std::array<char, 4096> text;
  const ssize_t n = ::read(fd.get(), text.data(), text.size());
  if (n < 0) return ErrnoError(errno, "read " + path);
  const std::string_view line(text.data(), static_cast<size_t>(n));
  return std::string(line.substr(0, line.find('\n')));
}

Status WriteDeviceAttribute(const std::string& name,
                            const std::string& attribute,
                            const std::string& value) {
  const std::string path = AttributePath(name, attribute);
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, path);
  if (::write(fd.get(), value.data(), value.size()) < 0) {
    return ErrnoError(errno, "write " + path);
  }
  return OkStatus();
}

Status CheckDeviceSize(const std::string& name, uint64_t size_bytes) {
  const auto sectors = ReadDeviceAttribute(name, "size");
  if (!sectors) return sectors.error();
  const std::string expected = std::to_string(size_bytes / kSectorBytes);
  if (*sectors == expected) return OkStatus();
  return Error{ErrorCode::kIo, DevicePath(name) + " has " + *sectors +
                                   " sectors instead of " + expected};
}

Status CheckWholeSectors(uint64_t size_bytes) {
  if (size_bytes % kSectorBytes == 0) return OkStatus();
  return Error{ErrorCode::kInvalid,
               "a block device of half a sector cannot be"};
}

Result<UniqueFd> OpenDev(FdStore* kept) {
  UniqueFd dev;
  if (kept != nullptr) dev = kept->Take(kKeptName);
  if (dev) return dev;
  dev.reset(::open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dev) return ErrnoError(errno, "/dev");
  if (kept != nullptr) {
    if (auto s = kept->Keep(kKeptName, dev.get()); !s) return s.error();
  }
  return dev;
}

Result<UniqueFd> ClaimAndFlushDevice(int dev, const std::string& name) {
  const std::string path = DevicePath(name);
  // A loop device does not claim what it lies on.
  if (const auto loops = FindLoops(path); !loops.empty()) {
    return Error{ErrorCode::kRefused, path + " is in use by " +
                                          DevicePath(loops.front()) +
                                          "; unmount what lies on that first"};
  }
  UniqueFd fd(::openat(dev, name.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  if (!fd && errno == EBUSY) {
    return Error{ErrorCode::kRefused,
                 path + " is in use; unmount what lies on it first"};
  }
  if (!fd) return ErrnoError(errno, path);
  if (::fsync(fd.get()) != 0) return ErrnoError(errno, "flush " + path);
  return fd;
}

}  // namespace bootstream
