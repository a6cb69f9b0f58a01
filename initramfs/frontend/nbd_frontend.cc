#include "initramfs/frontend/nbd_frontend.h"

#include <dirent.h>
#include <poll.h>
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

constexpr char kKeptName[] = "nbd-index";
constexpr int kSocketBufferBytes = 4 << 20;
constexpr int kDevicesMax = 1024;
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

// The kernel has one end of a socket pair, a session gets the other.
struct Attached {
  int index = -1;
  UniqueFd socket;
  bool taken_over = false;
};

// Our end of a new pair; `device` is told of the other, which `kernel` owns.
Result<UniqueFd> MakePair(NbdNetlink::Device& device, UniqueFd& kernel) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return ErrnoError(errno, "socketpair");
  }
  UniqueFd ours(pair[0]);
  kernel.reset(pair[1]);
  GrowBuffer(pair[0]);
  GrowBuffer(pair[1]);
  device.socket = pair[1];
  return ours;
}

// Has the other end been closed?
bool HungUp(int fd) {
  pollfd poller{fd, 0, 0};
  return ::poll(&poller, 1, 0) > 0 && (poller.revents & POLLHUP) != 0;
}

// The kernel learns of the old server's death a moment after it.  Until then it
// calls the order done, and drops the socket.
Result<Attached> TakeOver(NbdNetlink& netlink, NbdNetlink::Device device) {
  const std::string name = NameOf(device.index);
  const auto deadline = std::chrono::steady_clock::now() + kNoticeTimeout;
  while (std::chrono::steady_clock::now() < deadline) {
    UniqueFd kernel;
    auto socket = MakePair(device, kernel);
    if (!socket) return std::move(socket.error());
    if (auto s = netlink.Reconfigure(device); !s) return s.error();
    kernel.reset();
    if (!HungUp(socket->get())) {
      return Attached{device.index, std::move(*socket), true};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return Error{ErrorCode::kUnavailable,
               DevicePath(name) +
                   " is served by another process of the name '" +
                   device.identifier + "'; stop that first"};
}

Result<Attached> Connect(NbdNetlink& netlink, NbdNetlink::Device device) {
  UniqueFd kernel;
  auto socket = MakePair(device, kernel);
  if (!socket) return std::move(socket.error());
  const auto index = netlink.Connect(device);
  if (!index) return index.error();
  if (auto s = CheckDeviceSize(NameOf(*index), device.size_bytes); !s) {
    if (auto undone = netlink.Disconnect(*index); !undone) {
      return undone.error();
    }
    return s.error();
  }
  return Attached{*index, std::move(*socket), false};
}

// A device that somebody is told of before: we choose its number.
Result<Attached> ConnectWithNotice(NbdNetlink& netlink,
                                   NbdNetlink::Device device,
                                   const DeviceNotice& notice) {
  for (device.index = 0; device.index < kDevicesMax; ++device.index) {
    const std::string name = NameOf(device.index);
    if (ReadDeviceAttribute(name, "pid")) continue;  // connected
    if (auto s = GiveNotice(notice, name, true); !s) return s.error();
    auto attached = Connect(netlink, device);
    if (attached) return attached;
    (void)GiveNotice(notice, name, false);
    if (attached.error().code != ErrorCode::kUnavailable) return attached;
  }
  return Error{ErrorCode::kUnavailable, "every NBD device is connected"};
}

// Blocking: the kernel's part of Start.  `ours`: the device that was made in an
// earlier life.
Result<Attached> Attach(NbdNetlink::Device device, std::optional<int> ours,
                        const DeviceNotice& notice) {
  auto netlink = NbdNetlink::Open();
  if (!netlink) return netlink.error();
  if (ours) {
    device.index = *ours;
    return TakeOver(*netlink, device);
  }
  const auto existing = FindDevice(device.identifier);
  if (!existing && notice && device.index < 0) {
    return ConnectWithNotice(*netlink, device, notice);
  }
  if (!existing) return Connect(*netlink, device);
  device.index = *existing;
  const std::string name = NameOf(device.index);
  if (auto s = CheckDeviceSize(name, device.size_bytes); !s) return s.error();
  return TakeOver(*netlink, device);
}

// Blocking: the kernel's part of Stop.
Status Detach(int index, int dev) {
  {
    const auto claim = ClaimAndFlushDevice(dev, NameOf(index));
    if (!claim) return claim.error();
  }
  auto netlink = NbdNetlink::Open();
  if (!netlink) return netlink.error();
  return netlink->Disconnect(index);
}

class NbdFrontend final : public Frontend {
 public:
  NbdFrontend(IoLoop& loop, BlockService& service, NbdFrontendOptions options)
      : loop_(loop), service_(service), options_(std::move(options)) {
    options_.nbd.payload_bytes_max =
        kReadPayloadBytesMax + kWritePayloadBytesMax;
  }

  Task<Result<std::string>> Start() override {
    Status status = CheckWholeSectors(service_.size_bytes());
    if (!status) co_return status.error();
    auto dev = OpenDev(options_.kept);
    if (!dev) co_return dev.error();
    dev_ = std::move(*dev);
    auto attaching = OnThread(
        loop_,
        [device = DeviceWanted(), ours = KeptIndex(),
         notice = options_.notice] { return Attach(device, ours, notice); });
    auto attached = co_await attaching;
    if (!attached) co_return std::move(attached.error());
    index_ = attached->index;
    if (options_.kept != nullptr) {
      const Status s =
          options_.kept->KeepNumber(kKeptName, static_cast<uint32_t>(index_));
      if (!s) Log(s.error().message);
    }
    session_ = std::make_unique<NbdSession>(loop_, service_, options_.nbd,
                                            std::move(attached->socket));
    Spawn(RunSession());
    if (!attached->taken_over) co_await SetReissueTime();
    co_return DevicePath(NameOf(index_));
  }

  Task<Status> Stop() override {
    stopping_ = true;
    auto detaching = OnThread(
        loop_, [index = index_, dev = dev_.get(), notice = options_.notice] {
          if (auto s = Detach(index, dev); !s) return s;
          return GiveNotice(notice, NameOf(index), false);
        });
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
  std::optional<int> KeptIndex() const {
    if (options_.kept == nullptr) return std::nullopt;
    const auto index = options_.kept->TakeNumber(kKeptName);
    if (!index) return std::nullopt;
    return static_cast<int>(*index);
  }

  NbdNetlink::Device DeviceWanted() const {
    NbdNetlink::Device device;
    device.index = options_.index;
    device.identifier = options_.identifier;
    device.size_bytes = service_.size_bytes();
    device.flags = NbdTransmissionFlags(options_.nbd.read_only);
    device.dead_connection_timeout_s = options_.dead_connection_timeout_s;
    return device;
  }

  // Linux 6.12 waits for all requests in hand before it changes this: the
  // session must be running, and a device that was taken over, which may have
  // requests that wait for the network, keeps what it has.
  Task<void> SetReissueTime() {
    auto setting =
        OnThread(loop_, [name = NameOf(index_), value = options_.reissue_ms] {
          return WriteDeviceAttribute(name, "queue/io_timeout",
                                      std::to_string(value));
        });
    const Status set = co_await setting;
    if (!set) Log("requests are sent again late: " + set.error().message);
  }

  void Log(const std::string& line) const {
    if (options_.nbd.log) options_.nbd.log(line);
  }

  Task<void> RunSession() {
    const Status status =
        co_await session_->Run(NbdSession::Start::kTransmission);
    if (!stopping_) {
      Log("the kernel left " + DevicePath(NameOf(index_)) +
          (status ? "" : ": " + status.error().message));
    }
    // Whoever waits for us may destroy the session.
    loop_.PostAfter(Executor::Duration(0), [this] { ended_.Set(); });
  }

  IoLoop& loop_;
  BlockService& service_;
  NbdFrontendOptions options_;
  std::unique_ptr<NbdSession> session_;
  int index_ = -1;
  UniqueFd dev_;
  bool stopping_ = false;
  Event ended_;
};

}  // namespace

Status NbdIsThere() {
  const auto netlink = NbdNetlink::Open();
  return netlink ? OkStatus() : Status(netlink.error());
}

std::unique_ptr<Frontend> MakeNbdFrontend(IoLoop& loop, BlockService& service,
                                          NbdFrontendOptions options) {
  return std::make_unique<NbdFrontend>(loop, service, std::move(options));
}

}  // namespace bootstream
