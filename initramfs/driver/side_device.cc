#include "initramfs/driver/side_device.h"

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

SideDevice::SideDevice(IoLoop& loop, BlockService& service, FdStore kept,
                       SideDeviceOptions options)
    : loop_(loop),
      service_(service),
      kept_(std::move(kept)),
      options_(std::move(options)) {}

// Of a ublk device.  The streamed device has the migration's first half.
uint64_t SideDevice::Name() const {
  uint64_t name = LoadLe<uint64_t>(std::span(options_.migration).last<8>());
  for (const char c : options_.purpose) {
    name = name * 31 + static_cast<unsigned char>(c);
  }
  return name;
}

std::unique_ptr<Frontend> SideDevice::MakeFrontend() {
  switch (options_.frontend) {
    case FrontendKind::kNbd: {
      NbdFrontendOptions options;
      options.identifier = "bootstream-" + options_.purpose + "-" +
                           ToHex(options_.migration);
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
      options.name = Name();
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
Status SideDevice::KeepIntent() { return kept_.KeepText(kKeptIntent, "yes"); }

Task<Status> SideDevice::Start() {
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

Task<void> SideDevice::Resume() {
  if (!kept_.TakeText(kKeptIntent)) {
    (void)kept_.ForgetAll();
    co_return;
  }
  ++attaching_;
  {
    const auto guard = co_await mutex_.Lock();
    const Status status = co_await Start();
    if (!status && options_.log) {
      options_.log("the device '" + options_.purpose + "' is not attached any more: " +
                   status.error().message);
    }
  }
  --attaching_;
}

Task<Result<SideDevice::Attached>> SideDevice::Attach() {
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

Task<Status> SideDevice::Detach() {
  const auto guard = co_await mutex_.Lock();
  if (!frontend_) co_return OkStatus();
  if (auto s = co_await frontend_->Stop(); !s) co_return s;
  frontend_.reset();
  path_.clear();
  co_return kept_.ForgetAll();
}

}  // namespace bootstream
