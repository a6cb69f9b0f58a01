#include "initramfs/frontend/fuse_frontend.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "blockmap/base/types.h"
#include "initramfs/frontend/fuse_file.h"
#include "initramfs/frontend/helper_thread.h"
#include "initramfs/frontend/kernel_device.h"
#include "initramfs/frontend/loop_device.h"

namespace bootstream {
namespace {

// Names in the keeper's store; `fuse-lock` is held, not used.
constexpr char kKeptDevice[] = "fuse";
constexpr char kKeptInit[] = "fuse-init";
constexpr char kKeptLoop[] = "fuse-loop";
constexpr char kKeptLock[] = "fuse-lock";

// The private directory under the mount, and our lock on it.
struct MountPoint {
  std::string path;  // absolute
  UniqueFd lock;

  // "/run/bootstream/fuse" -> "run-bootstream-fuse.disk"
  std::string FileName() const {
    std::string name = path.substr(1) + ".disk";
    std::replace(name.begin(), name.end(), '/', '-');
    return name;
  }
};

// The directory under the mount point.  What a dead predecessor mounted there
// is taken away; a mount that answers belongs to somebody.
Result<UniqueFd> OpenDirectory(const std::string& path) {
  while (true) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) {
      const int error = errno;
      const bool dead = error == ENOTCONN || error == ECONNABORTED;
      if (dead && ::umount2(path.c_str(), MNT_DETACH) == 0) continue;
      return ErrnoError(error, path);
    }
    struct statfs info {};
    if (::fstatfs(fd.get(), &info) != 0) return ErrnoError(errno, path);
    if (info.f_type == FUSE_SUPER_MAGIC ||
        ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      return Error{ErrorCode::kUnavailable,
                   path + " is used by another process; stop that first"};
    }
    return fd;
  }
}

Result<MountPoint> PrepareDirectory(const std::string& directory) {
  std::error_code error;
  MountPoint point;
  point.path = std::filesystem::absolute(directory, error).lexically_normal();
  if (error) return Error{ErrorCode::kIo, directory + ": " + error.message()};
  if (point.FileName().size() > NAME_MAX) {
    return Error{ErrorCode::kInvalid, directory + ": the path is too long"};
  }
  const auto parent = std::filesystem::path(point.path).parent_path();
  std::filesystem::create_directories(parent, error);
  if (error) {
    return Error{ErrorCode::kIo, parent.string() + ": " + error.message()};
  }
  if (::mkdir(point.path.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoError(errno, "mkdir " + point.path);
  }
  auto lock = OpenDirectory(point.path);
  if (!lock) return std::move(lock.error());
  point.lock = std::move(*lock);
  return point;
}

// Loop devices of a dead predecessor, whether it died before or after its
// mount left the tree.
Status DetachStale(const MountPoint& point, const DeviceNotice& notice) {
  for (const auto& file :
       {"/" + point.FileName(), point.path + "/" + point.FileName()}) {
    for (const auto& name : FindLoops(file)) {
      if (auto s = AbandonLoop(name); !s) return s;
      (void)GiveNotice(notice, name, false);
    }
  }
  return OkStatus();
}

Result<MountPoint> Prepare(const std::string& directory,
                           const DeviceNotice& notice) {
  auto point = PrepareDirectory(directory);
  if (!point) return point;
  if (auto s = DetachStale(*point, notice); !s) return s.error();
  return point;
}

// Put a loop device on the mounted file; its name.  The mount is out of the
// tree afterwards, in any case.
Result<std::string> AttachFile(int dev, const std::string& directory,
                               const std::string& file_name,
                               uint64_t size_bytes,
                               const LoopOptions& options) {
  const std::string path = directory + "/" + file_name;
  const int how = options.read_only ? O_RDONLY : O_RDWR;
  const UniqueFd file(::open(path.c_str(), how | O_DIRECT | O_CLOEXEC));
  const int error = file ? 0 : errno;
  ::umount2(directory.c_str(), MNT_DETACH);
  if (!file) return ErrnoError(error, path);
  auto name = AttachLoop(file.get(), options);
  if (!name) return name;
  if (auto s = CheckDeviceSize(*name, size_bytes); !s) {
    if (auto detached = DetachLoop(dev, *name); !detached) {
      return detached.error();
    }
    (void)GiveNotice(options.notice, *name, false);
    return s.error();
  }
  return name;
}

class FuseFrontend final : public Frontend {
 public:
  FuseFrontend(IoLoop& loop, BlockService& service, FuseFrontendOptions options)
      : loop_(loop), service_(service), options_(std::move(options)) {}

  Task<Result<std::string>> Start() override {
    Status status = CheckWholeSectors(service_.size_bytes());
    if (!status) co_return status.error();
    auto dev = OpenDev(options_.kept);
    if (!dev) co_return dev.error();
    dev_ = std::move(*dev);
    if (options_.kept != nullptr) {
      auto resumed = Resume(*options_.kept);
      if (!resumed) co_return std::move(resumed.error());
      if (file_) co_return DevicePath(loop_name_);
    }
    auto preparing = OnThread(
        loop_, [directory = options_.directory, notice = options_.notice] {
          return Prepare(directory, notice);
        });
    auto point = co_await preparing;
    if (!point) co_return std::move(point.error());
    point_ = std::move(*point);
    auto file = FuseFile::Mount(
        loop_, service_, point_.path, point_.FileName(), [this] { Gone(); },
        [this](const FuseSession& session) { KeepSession(session); });
    if (!file) co_return std::move(file.error());
    file_ = std::move(*file);
    auto attaching = OnThread(
        loop_, [dev = dev_.get(), directory = point_.path,
                file_name = point_.FileName(),
                size_bytes = service_.size_bytes(), options = LoopWanted()] {
          return AttachFile(dev, directory, file_name, size_bytes, options);
        });
    auto name = co_await attaching;
    if (!name) {
      stopping_ = true;
      if (auto s = co_await Close(); !s) co_return s.error();
      co_return std::move(name.error());
    }
    loop_name_ = std::move(*name);
    if (options_.kept != nullptr) {
      const Status s = options_.kept->KeepText(kKeptLoop, loop_name_);
      if (!s) Log(s.error().message);
    }
    co_return DevicePath(loop_name_);
  }

  Task<Status> Stop() override {
    stopping_ = true;
    auto detaching = OnThread(
        loop_, [dev = dev_.get(), name = loop_name_, notice = options_.notice] {
          if (auto s = DetachLoop(dev, name); !s) return s;
          return GiveNotice(notice, name, false);
        });
    Status status = co_await detaching;
    if (!status) {
      stopping_ = false;
      co_return status;
    }
    co_return co_await Close();
  }

 private:
  LoopOptions LoopWanted() const {
    LoopOptions options;
    options.read_only = options_.read_only;
    options.notice = options_.notice;
    return options;
  }

  // The device of the worker before us, if its connection was kept.
  Status Resume(FdStore& kept) {
    UniqueFd device = kept.Take(kKeptDevice);
    const auto init = kept.TakeBytes(kKeptInit);
    auto loop_name = kept.TakeText(kKeptLoop);
    if (!device || !init || !loop_name) return OkStatus();
    auto file = FuseFile::Adopt(loop_, service_, std::move(device),
                                FuseSession::From(*init), [this] { Gone(); });
    if (!file) return std::move(file.error());
    file_ = std::move(*file);
    loop_name_ = std::move(*loop_name);
    return OkStatus();
  }

  // Where requests cannot be sent again the connection had better break: what
  // waits for it would wait for ever.
  void KeepSession(const FuseSession& session) {
    FdStore* kept = options_.kept;
    if (kept == nullptr || !session.can_resend) return;
    Status s = kept->Keep(kKeptLock, point_.lock.get());
    if (s) s = kept->KeepBytes(kKeptInit, session.init_request);
    if (s) s = kept->Keep(kKeptDevice, session.device);
    if (!s) Log(s.error().message);
  }

  void Gone() const {
    if (stopping_) return;
    Log(DevicePath(loop_name_) + ": its file system was taken away");
  }

  void Log(const std::string& line) const {
    if (options_.log) options_.log(line);
  }

  Task<Status> Close() {
    Status status = co_await file_->Close();
    file_.reset();
    point_.lock.reset();
    co_return status;
  }

  IoLoop& loop_;
  BlockService& service_;
  const FuseFrontendOptions options_;
  MountPoint point_;
  std::unique_ptr<FuseFile> file_;
  UniqueFd dev_;  // the directory
  std::string loop_name_;
  bool stopping_ = false;
};

}  // namespace

std::unique_ptr<Frontend> MakeFuseFrontend(IoLoop& loop, BlockService& service,
                                           FuseFrontendOptions options) {
  return std::make_unique<FuseFrontend>(loop, service, std::move(options));
}

}  // namespace bootstream
