#include "initramfs/driver/source_device.h"

#include <filesystem>
#include <utility>

#include "blockmap/base/coding.h"
#include "blockmap/image/signing.h"
#include "initramfs/frontend/fuse_frontend.h"
#include "initramfs/frontend/nbd_frontend.h"
#include "initramfs/frontend/socket_frontend.h"
#include "initramfs/frontend/ublk_frontend.h"

namespace bootstream {
namespace {

// In our branch of the keeper's store: somebody has attached, and nobody has
// detached.
constexpr char kKeptIntent[] = "attached";

}  // namespace

SourceDevice::SourceDevice(IoLoop& loop, BlockDevice& disk, const BlockMap& map,
                           const Grid& disk_grid, FdStore kept,
                           SourceDeviceOptions options)
    : loop_(loop),
      view_(disk, map, disk_grid),
      service_(view_),
      kept_(std::move(kept)),
      options_(std::move(options)) {}

std::unique_ptr<Frontend> SourceDevice::MakeFrontend() {
  switch (options_.frontend) {
    case FrontendKind::kNbd: {
      NbdFrontendOptions options;
      options.identifier = "bootstream-source-" + ToHex(options_.migration);
      // Nobody comes after us: who reads it then gets errors.
      if (!kept_.has_keeper()) options.dead_connection_timeout_s = 0;
      options.nbd.read_only = true;
      options.nbd.log = options_.log;
      options.notice = options_.notice;
      options.kept = &kept_;
      return MakeNbdFrontend(loop_, service_, std::move(options));
    }
    case FrontendKind::kFuse: {
      FuseFrontendOptions options;
      options.directory = options_.mount_directory;
      options.read_only = true;
      options.notice = options_.notice;
      options.log = options_.log;
      options.kept = &kept_;
      return MakeFuseFrontend(loop_, service_, std::move(options));
    }
    case FrontendKind::kUblk: {
      UblkFrontendOptions options;
      options.read_only = true;
      // The streamed device has the first half.
      options.name = LoadLe<uint64_t>(std::span(options_.migration).last<8>());
      options.notice = options_.notice;
      options.log = options_.log;
      options.kept = &kept_;
      return MakeUblkFrontend(loop_, service_, std::move(options));
    }
    case FrontendKind::kSocket:
    case FrontendKind::kAuto:
      break;
  }
  SocketFrontendOptions options;
  options.path = options_.socket;
  options.nbd.read_only = true;
  options.kept = &kept_;
  return MakeSocketFrontend(loop_, service_, std::move(options));
}

// Before there is a device: of one that is half made, a later worker knows.
Status SourceDevice::KeepIntent() { return kept_.KeepText(kKeptIntent, "yes"); }

Task<Status> SourceDevice::Start() {
  frontend_ = MakeFrontend();
  auto path = co_await frontend_->Start();
  if (path) {
    path_ = std::move(*path);
    co_return OkStatus();
  }
  frontend_.reset();
  (void)kept_.ForgetAll();
  co_return path.error();
}

Task<void> SourceDevice::Resume() {
  if (!kept_.TakeText(kKeptIntent)) {
    (void)kept_.ForgetAll();
    co_return;
  }
  ++attaching_;
  {
    const auto guard = co_await mutex_.Lock();
    const Status status = co_await Start();
    if (!status && options_.log) {
      options_.log("the old system's device is not attached any more: " +
                   status.error().message);
    }
  }
  --attaching_;
}

Task<Result<SourceDevice::Attached>> SourceDevice::Attach() {
  ++attaching_;
  Status status;
  bool already = false;
  {
    const auto guard = co_await mutex_.Lock();
    already = frontend_ != nullptr;
    if (!already) {
      std::error_code ignored;  // shows when the socket is made
      std::filesystem::create_directories(
          std::filesystem::path(options_.socket).parent_path(), ignored);
      status = KeepIntent();
      if (status) status = co_await Start();
    }
  }
  --attaching_;
  if (!status) co_return status.error();
  co_return Attached{path_, already};
}

Task<Status> SourceDevice::Detach() {
  const auto guard = co_await mutex_.Lock();
  if (!frontend_) co_return OkStatus();
  if (auto s = co_await frontend_->Stop(); !s) co_return s;
  frontend_.reset();
  path_.clear();
  co_return kept_.ForgetAll();
}

}  // namespace bootstream
