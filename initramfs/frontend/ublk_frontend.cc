#include "initramfs/frontend/ublk_frontend.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/async_room.h"
#include "blockmap/base/types.h"
#include "initramfs/frontend/helper_thread.h"
#include "initramfs/frontend/kernel_device.h"

namespace bootstream {
namespace {

// A device never has requests as large (UblkDevice::request_bytes_max).
constexpr uint64_t kCarriedBytesMax = uint64_t{32} << 20;
constexpr char kKeptName[] = "ublk-id";
// How long a server that is taken over may seem to live, and may really die.
constexpr std::chrono::seconds kNoticeTimeout{10};
constexpr std::chrono::seconds kDeathTimeout{120};
// The timer that ends a dead server's full queue.  Nothing happens when it ends
// while the server lives.
constexpr unsigned kDeathNoticeMs = 5000;
constexpr unsigned kQueuesMax = 4;
constexpr unsigned kRequestsMax = 256;
constexpr unsigned kQueueDepthMax = 128;

// Where pread and pwrite on the character device find a request's data
// (UBLKSRV_IO_BUF_OFFSET, UBLK_TAG_OFF, UBLK_QID_OFF of Linux 6.5).
constexpr off_t DataOffset(uint16_t queue, uint16_t tag) {
  return static_cast<off_t>(UBLKSRV_IO_BUF_OFFSET +
                            (static_cast<uint64_t>(queue) << 41) +
                            (static_cast<uint64_t>(tag) << 25));
}

// What the kernel wants, of one queue: a descriptor for each tag.
class Descriptors {
 public:
  static Result<Descriptors> Map(int fd, uint16_t queue, uint16_t depth) {
    const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const auto pages = [page](size_t bytes) {
      return (bytes + page - 1) / page * page;
    };
    Descriptors made;
    made.size_ = pages(depth * sizeof(ublksrv_io_desc));
    const size_t most = pages(UBLK_MAX_QUEUE_DEPTH * sizeof(ublksrv_io_desc));
    void* at =
        ::mmap(nullptr, made.size_, PROT_READ, MAP_SHARED | MAP_POPULATE, fd,
               static_cast<off_t>(UBLKSRV_CMD_BUF_OFFSET + queue * most));
    if (at == MAP_FAILED) return ErrnoError(errno, "ublk: mmap");
    made.at_ = static_cast<const ublksrv_io_desc*>(at);
    return made;
  }
  Descriptors(Descriptors&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), size_(other.size_) {}
  Descriptors& operator=(Descriptors&&) = delete;
  ~Descriptors() {
    if (at_ != nullptr) ::munmap(const_cast<ublksrv_io_desc*>(at_), size_);
  }
  // A copy: the kernel's memory, written before the completion that says so.
  ublksrv_io_desc Get(uint16_t tag) const { return at_[tag]; }

 private:
  Descriptors() = default;
  const ublksrv_io_desc* at_ = nullptr;
  size_t size_ = 0;
};

struct Attached {
  uint32_t id = 0;
  UniqueFd fd;  // the character device
  uint16_t queues = 0;
  uint16_t queue_depth = 0;
  bool taken_over = false;
};

// Tries again while the answer is kUnavailable and `waiting` says so.
template <typename Try, typename Waiting>
Status Patiently(Try attempt, Waiting waiting) {
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    Status status = attempt();
    if (status || status.error().code != ErrorCode::kUnavailable) return status;
    if (!waiting(std::chrono::steady_clock::now() - begin)) return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

bool Lives(pid_t process) {
  return process > 0 && (::kill(process, 0) == 0 || errno != ESRCH);
}

Result<UniqueFd> OpenChar(int dev, uint32_t id) {
  UniqueFd fd(::openat(dev, UblkCharName(id).c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, UblkCharName(id));
  return fd;
}

// The kernel learns of the old server's death a moment after it; of one that
// had all of a queue's requests in hand when the timer of one of them ends.
Status WaitForDeath(UblkControl& control, const ublksrv_ctrl_dev_info& device) {
  const auto waiting = [&](auto waited) {
    const bool lives = Lives(device.ublksrv_pid);
    return waited < (lives ? kNoticeTimeout : kDeathTimeout);
  };
  return Patiently([&] { return control.StartRecovery(device.dev_id); },
                   waiting);
}

Result<Attached> TakeOver(UblkControl& control, int dev,
                          const ublksrv_ctrl_dev_info& device,
                          const UblkDevice& wanted) {
  const auto size = control.SizeBytes(device.dev_id);
  if (!size) return size.error();
  if (*size != wanted.size_bytes || device.ublksrv_flags != wanted.name) {
    return Error{ErrorCode::kRefused, DevicePath(UblkBlockName(device.dev_id)) +
                                          " is not the device that it was"};
  }
  if (auto s = WaitForDeath(control, device); !s) return s.error();
  auto fd = OpenChar(dev, device.dev_id);
  if (!fd) return fd.error();
  return Attached{device.dev_id, std::move(*fd), device.nr_hw_queues,
                  device.queue_depth, true};
}

Result<Attached> AddNew(UblkControl& control, int dev,
                        const UblkDevice& wanted) {
  const auto device = control.Add(wanted);
  if (!device) return device.error();
  auto fd = OpenChar(dev, device->dev_id);
  if (!fd) {
    (void)control.Delete(device->dev_id);
    return fd.error();
  }
  return Attached{device->dev_id, std::move(*fd), device->nr_hw_queues,
                  device->queue_depth, false};
}

// Blocking: a new device, or that of an earlier life.
Result<Attached> Attach(int dev, const UblkDevice& wanted,
                        std::optional<uint32_t> ours) {
  auto control = UblkControl::Open(dev);
  if (!control) return control.error();
  if (ours) {
    const auto device = (*control)->Info(*ours);
    if (!device) return device.error();
    return TakeOver(**control, dev, *device, wanted);
  }
  if (wanted.name == 0) return AddNew(**control, dev, wanted);
  for (const auto& device : (*control)->Find(wanted.name)) {
    if (device.state != UBLK_S_DEV_DEAD) {
      return TakeOver(**control, dev, device, wanted);
    }
    // Never started, or already stopped, by one that was killed then.
    if (Lives(device.ublksrv_pid)) continue;
    if (auto s = (*control)->Delete(device.dev_id); !s) return s.error();
  }
  return AddNew(**control, dev, wanted);
}

// Blocking: with its server ready.
Status GoOn(int dev, uint32_t id, bool taken_over, uint64_t size_bytes,
            const DeviceNotice& notice) {
  auto control = UblkControl::Open(dev);
  if (!control) return control.error();
  if (taken_over) return (*control)->EndRecovery(id);
  if (auto s = GiveNotice(notice, UblkBlockName(id), true); !s) return s;
  if (auto s = (*control)->Start(id); !s) return s;
  return CheckDeviceSize(UblkBlockName(id), size_bytes);
}

// Blocking: while its server still answers.
Status StopDevice(int dev, uint32_t id, bool claim) {
  UniqueFd claimed;  // until nobody can open it any more
  if (claim) {
    auto opened = ClaimAndFlushDevice(dev, UblkBlockName(id));
    if (!opened) return opened.error();
    claimed = std::move(*opened);
  }
  auto control = UblkControl::Open(dev);
  if (!control) return control.error();
  return (*control)->Stop(id);
}

Status DeleteDevice(int dev, uint32_t id) {
  auto control = UblkControl::Open(dev);
  if (!control) return control.error();
  return (*control)->Delete(id);
}

// While it lives, this thread cannot administer the system.
class WithoutAdministration {
 public:
  WithoutAdministration() {
    if (::syscall(SYS_capget, &header_, rights_.data()) != 0) return;
    auto fewer = rights_;
    fewer[0].effective &= ~(1U << CAP_SYS_ADMIN);
    (void)::syscall(SYS_capset, &header_, fewer.data());
  }
  ~WithoutAdministration() {
    (void)::syscall(SYS_capset, &header_, rights_.data());
  }
  WithoutAdministration(const WithoutAdministration&) = delete;
  WithoutAdministration& operator=(const WithoutAdministration&) = delete;

 private:
  __user_cap_header_struct header_{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> rights_{};
};

uint16_t QueuesFor(unsigned processors) {
  return static_cast<uint16_t>(std::clamp(processors, 1U, kQueuesMax));
}

class UblkFrontend final : public Frontend {
 public:
  UblkFrontend(IoLoop& loop, BlockService& service, UblkFrontendOptions options)
      : loop_(loop), service_(service), options_(std::move(options)) {}

  Task<Result<std::string>> Start() override {
    Status status = CheckWholeSectors(service_.size_bytes());
    if (!status) co_return status.error();
    auto dev = OpenDev(options_.kept);
    if (!dev) co_return dev.error();
    dev_ = std::move(*dev);
    auto attaching = OnThread(
        loop_, [dev = dev_.get(), device = DeviceWanted(), ours = KeptId()] {
          return Attach(dev, device, ours);
        });
    auto attached = co_await attaching;
    if (!attached) co_return attached.error();
    id_ = attached->id;
    fd_ = std::move(attached->fd);
    status = Serve(attached->queues, attached->queue_depth);
    if (status) {
      auto going = OnThread(
          loop_, [dev = dev_.get(), id = id_, taken = attached->taken_over,
                  size = service_.size_bytes(), notice = options_.notice] {
            return GoOn(dev, id, taken, size, notice);
          });
      status = co_await going;
    }
    if (!status) {
      if (!attached->taken_over) (void)co_await TakeAway(/*claim=*/false);
      co_return status.error();
    }
    if (!attached->taken_over) co_await SetDeathNotice();
    if (options_.kept != nullptr) {
      const Status s = options_.kept->KeepNumber(kKeptName, id_);
      if (!s) Log(s.error().message);
    }
    co_return DevicePath(UblkBlockName(id_));
  }

  Task<Status> Stop() override { co_return co_await TakeAway(/*claim=*/true); }

 private:
  UblkDevice DeviceWanted() const {
    UblkDevice device;
    device.size_bytes = service_.size_bytes();
    device.read_only = options_.read_only;
    device.queues = QueuesFor(std::thread::hardware_concurrency());
    device.queue_depth = static_cast<uint16_t>(
        std::min(kQueueDepthMax, kRequestsMax / device.queues));
    device.name = options_.name;
    return device;
  }

  std::optional<uint32_t> KeptId() const {
    if (options_.kept == nullptr) return std::nullopt;
    return options_.kept->TakeNumber(kKeptName);
  }

  Task<void> SetDeathNotice() {
    auto setting = OnThread(loop_, [name = UblkBlockName(id_)] {
      return WriteDeviceAttribute(name, "queue/io_timeout",
                                  std::to_string(kDeathNoticeMs));
    });
    const Status set = co_await setting;
    if (!set) Log("a death may be noticed late: " + set.error().message);
  }

  void Log(const std::string& line) const {
    if (options_.log) options_.log(line);
  }

  // A coroutine for each request that may be under way.  All fetch in one
  // submission, which kill -9 does not divide: a queue that is half fetched
  // cannot be taken over.  For a server that may not administer the system the
  // kernel looks for no partitions, now or later.
  Status Serve(uint16_t queues, uint16_t depth) {
    queues_.reserve(queues);
    for (uint16_t queue = 0; queue < queues; ++queue) {
      auto mapped = Descriptors::Map(fd_.get(), queue, depth);
      if (!mapped) return mapped.error();
      queues_.push_back(std::move(*mapped));
    }
    serving_ = size_t{queues} * depth;
    started_ = true;
    loop_.SubmitNow();
    const WithoutAdministration fewer_rights;
    for (uint16_t queue = 0; queue < queues; ++queue) {
      for (uint16_t tag = 0; tag < depth; ++tag) Spawn(ServeTag(queue, tag));
    }
    loop_.SubmitNow();
    return OkStatus();
  }

  // Until the device is stopped.
  Task<void> ServeTag(uint16_t queue, uint16_t tag) {
    uint32_t operation = _IOWR('u', UBLK_IO_FETCH_REQ, ublksrv_io_cmd);
    int result = 0;
    for (;;) {
      const int said = co_await loop_.Do([=, this](io_uring_sqe* sqe) {
        io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd_.get(), nullptr, 0, 0);
        sqe->cmd_op = operation;
        ublksrv_io_cmd command{};
        command.q_id = queue;
        command.tag = tag;
        command.result = result;
        std::memcpy(sqe->cmd, &command, sizeof command);
      });
      if (said != UBLK_IO_RES_OK) {
        if (said != UBLK_IO_RES_ABORT) {
          Log("ublk: no more requests: " + std::string(std::strerror(-said)));
        }
        break;
      }
      result = co_await Carry(queue, tag, queues_[queue].Get(tag));
      operation = _IOWR('u', UBLK_IO_COMMIT_AND_FETCH_REQ, ublksrv_io_cmd);
    }
    if (--serving_ > 0) co_return;
    // Whoever waits for us takes the descriptors away.
    loop_.PostAfter(Executor::Duration(0), [this] { ended_.Set(); });
  }

  // Bytes done, or minus errno.
  Task<int> Carry(uint16_t queue, uint16_t tag, ublksrv_io_desc request) {
    const uint8_t operation = ublksrv_get_op(&request);
    if (operation == UBLK_IO_OP_FLUSH) {  // and has no place
      const Status flushed = co_await service_.Flush();
      co_return flushed ? 0 : ErrnoOf(flushed.error());
    }
    const uint64_t offset = request.start_sector * kSectorBytes;
    const uint64_t size = uint64_t{request.nr_sectors} * kSectorBytes;
    const uint64_t end = service_.size_bytes();
    if (offset > end || size > end - offset) co_return -EIO;
    const bool fua = (request.op_flags & UBLK_IO_F_FUA) != 0;
    Status done = OkStatus();
    switch (operation) {
      case UBLK_IO_OP_READ:
        co_return co_await CarryRead(DataOffset(queue, tag), offset, size);
      case UBLK_IO_OP_WRITE:
        co_return co_await CarryWrite(DataOffset(queue, tag), offset, size,
                                      fua);
      case UBLK_IO_OP_DISCARD:
        done = co_await service_.Discard(offset, size);
        break;
      case UBLK_IO_OP_WRITE_ZEROES:
        done = co_await service_.WriteZeroes(offset, size, fua);
        break;
      default:
        co_return -EOPNOTSUPP;
    }
    co_return done ? 0 : ErrnoOf(done.error());
  }

  Task<int> CarryRead(off_t data, uint64_t offset, uint64_t size) {
    if (size == 0 || size > kCarriedBytesMax) co_return -EIO;
    const auto room = co_await read_room_.Take(size);
    auto payload = AlignedBuffer::Unfilled(size);
    const Status done = co_await service_.Read(offset, payload.span());
    if (!done) co_return ErrnoOf(done.error());
    const ssize_t n = ::pwrite(fd_.get(), payload.span().data(), size, data);
    co_return n == static_cast<ssize_t>(size) ? static_cast<int>(size) : -EIO;
  }

  Task<int> CarryWrite(off_t data, uint64_t offset, uint64_t size, bool fua) {
    if (size == 0 || size > kCarriedBytesMax) co_return -EIO;
    const auto room = co_await write_room_.Take(size);
    auto payload = AlignedBuffer::Unfilled(size);
    const ssize_t n = ::pread(fd_.get(), payload.span().data(), size, data);
    if (n != static_cast<ssize_t>(size)) co_return -EIO;
    const Status done = co_await service_.Write(offset, payload.span(), fua);
    co_return done ? static_cast<int>(size) : ErrnoOf(done.error());
  }

  static int ErrnoOf(const Error& error) {
    return error.code == ErrorCode::kNoSpace ? -ENOSPC : -EIO;
  }

  Task<Status> TakeAway(bool claim) {
    auto stopping = OnThread(loop_, [dev = dev_.get(), id = id_, claim] {
      return StopDevice(dev, id, claim);
    });
    Status status = co_await stopping;
    if (!status) co_return status;
    if (started_) co_await ended_;
    queues_.clear();
    fd_.reset();
    auto deleting =
        OnThread(loop_, [dev = dev_.get(), id = id_, notice = options_.notice] {
          if (auto s = DeleteDevice(dev, id); !s) return s;
          return GiveNotice(notice, UblkBlockName(id), false);
        });
    co_return co_await deleting;
  }

  IoLoop& loop_;
  BlockService& service_;
  const UblkFrontendOptions options_;
  UniqueFd dev_;  // the directory
  uint32_t id_ = 0;
  UniqueFd fd_;
  std::vector<Descriptors> queues_;
  AsyncRoom read_room_{kReadPayloadBytesMax};
  AsyncRoom write_room_{kWritePayloadBytesMax};
  size_t serving_ = 0;
  bool started_ = false;
  Event ended_;
};

}  // namespace

Status UblkIsThere() {
  const auto dev = OpenDev(nullptr);
  if (!dev) return dev.error();
  const auto control = UblkControl::Open(dev->get());
  return control ? OkStatus() : Status(control.error());
}

std::unique_ptr<Frontend> MakeUblkFrontend(IoLoop& loop, BlockService& service,
                                           UblkFrontendOptions options) {
  return std::make_unique<UblkFrontend>(loop, service, std::move(options));
}

}  // namespace bootstream
