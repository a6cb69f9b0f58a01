#include "initramfs/frontend/nbd_frontend.h"

#include <dirent.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "blockmap/base/types.h"
#include "blockmap/nbd/nbd_protocol.h"
#include "initramfs/frontend/helper_thread.h"
#include "initramfs/frontend/kernel_device.h"
#include "initramfs/frontend/nbd_netlink.h"

namespace bootstream {
namespace {

constexpr int kSocketBufferBytes = 4 << 20;
constexpr auto kNoticeTimeout = std::chrono::seconds(10);

std::string NameOf(int index) { return "nbd" + std::to_string(index); }

// Room for a large request or reply; the forced form passes rmem_max.
void GrowBuffer(int fd) {
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBufferBytes,
               sizeof kSocketBufferBytes);
}

// The connected device whose backend is called `identifier`.
std::optional<int> FindDevice(const std::string& identifier) {
  if (identifier.empty()) return std::nullopt;
  struct Close {
    void operator()(DIR* dir) const { ::closedir(dir); }
  };
  const std::unique_ptr<DIR, Close> dir(::opendir("/sys/block"));
  if (!dir) return std::nullopt;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (!name.starts_with("nbd")) continue;
    const auto backend = ReadDeviceAttribute(name, "backend");
    if (backend && *backend == identifier) return std::stoi(name.substr(3));
  }
  return std::nullopt;
}

// Blocking: the kernel's part of starting.
class Attachment {
 public:
  // Connect, or take over; the index of the device.
  static Result<int> Attach(NbdNetlink::Device device, uint32_t reissue_ms) {
    auto netlink = NbdNetlink::Open();
    if (!netlink) return netlink.error();
    if (const auto index = FindDevice(device.identifier)) {
      device.index = *index;
      if (auto s = CheckDeviceSize(NameOf(*index), device.size_bytes); !s) {
        return s.error();
      }
      if (auto s = TakeOver(*netlink, device); !s) return s.error();
      return *index;
    }
    const auto index = netlink->Connect(device);
    if (!index) return index.error();
    if (auto s = Check(*index, device.size_bytes, reissue_ms); !s) {
      // Its own error would hide the first.
      (void)netlink->Disconnect(*index).has_value();
      return s.error();
    }
    return *index;
  }

  static Status Detach(int index) {
    {
      const auto claim = ClaimAndFlushDevice(NameOf(index));
      if (!claim) return claim.error();
    }
    auto netlink = NbdNetlink::Open();
    if (!netlink) return netlink.error();
    return netlink->Disconnect(index);
  }

 private:
  static Status Check(int index, uint64_t size_bytes, uint32_t reissue_ms) {
    if (auto s = CheckDeviceSize(NameOf(index), size_bytes); !s) return s;
    return WriteDeviceAttribute(NameOf(index), "queue/io_timeout",
                                std::to_string(reissue_ms));
  }

  // The kernel learns of the old server's death a moment after it.
  static Status TakeOver(NbdNetlink& netlink,
                         const NbdNetlink::Device& device) {
    const auto deadline = std::chrono::steady_clock::now() + kNoticeTimeout;
    while (true) {
      Status status = netlink.Reconfigure(device);
      if (status || status.error().code != ErrorCode::kUnavailable ||
          std::chrono::steady_clock::now() > deadline) {
        return status;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
};

class NbdFrontend final : public Frontend {
 public:
  NbdFrontend(IoLoop& loop, BlockService& service, NbdFrontendOptions options)
      : loop_(loop), service_(service), options_(std::move(options)) {}

  Task<Result<std::string>> Start() override {
    if (service_.size_bytes() % kSectorBytes != 0) {
      co_return Error{ErrorCode::kInvalid,
                      "a block device of half a sector cannot be"};
    }
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
      co_return ErrnoError(errno, "socketpair");
    }
    const UniqueFd kernel(pair[1]);
    GrowBuffer(pair[0]);
    GrowBuffer(pair[1]);
    session_ = std::make_unique<NbdSession>(loop_, service_, pool_,
                                            options_.nbd, UniqueFd(pair[0]));
    Spawn(RunSession());
    auto attaching = OnThread(loop_, [device = DeviceFor(kernel.get()),
                                      reissue_ms = options_.reissue_ms] {
      return Attachment::Attach(device, reissue_ms);
    });
    const auto index = co_await attaching;
    if (!index) {
      stopping_ = true;
      session_->Stop();
      co_await ended_;
      co_return index.error();
    }
    index_ = *index;
    co_return DevicePath(NameOf(index_));
  }

  Task<Status> Stop() override {
    stopping_ = true;
    auto detaching =
        OnThread(loop_, [index = index_] { return Attachment::Detach(index); });
    Status status = co_await detaching;
    if (!status) {
      stopping_ = false;
      co_return status;
    }
    // The kernel has said DISCONNECT on the socket.
    co_await ended_;
    co_return OkStatus();
  }

 private:
  NbdNetlink::Device DeviceFor(int socket) const {
    NbdNetlink::Device device;
    device.index = options_.index;
    device.socket = socket;
    device.identifier = options_.identifier;
    device.size_bytes = service_.size_bytes();
    device.flags = NbdTransmissionFlags(options_.nbd.read_only);
    device.dead_connection_timeout_s = options_.dead_connection_timeout_s;
    return device;
  }

  Task<void> RunSession() {
    const Status status =
        co_await session_->Run(NbdSession::Start::kTransmission);
    if (!stopping_ && options_.nbd.log) {
      options_.nbd.log("the kernel left " + DevicePath(NameOf(index_)) +
                       (status ? "" : ": " + status.error().message));
    }
    // Whoever waits for us may destroy the session.
    loop_.PostAfter(Executor::Duration(0), [this] { ended_.Set(); });
  }

  IoLoop& loop_;
  BlockService& service_;
  const NbdFrontendOptions options_;
  BufferPool pool_;
  std::unique_ptr<NbdSession> session_;
  int index_ = -1;
  bool stopping_ = false;
  Event ended_;
};

}  // namespace

std::unique_ptr<Frontend> MakeNbdFrontend(IoLoop& loop, BlockService& service,
                                          NbdFrontendOptions options) {
  return std::make_unique<NbdFrontend>(loop, service, std::move(options));
}

}  // namespace bootstream
