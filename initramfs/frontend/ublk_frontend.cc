#include "initramfs/frontend/ublk_frontend.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "blockmap/base/types.h"
#include "blockmap/nbd/buffer_pool.h"
#include "initramfs/frontend/helper_thread.h"
#include "initramfs/frontend/kernel_device.h"

namespace bootstream {
namespace {

constexpr char kKeptName[] = "ublk-id";
constexpr auto kNoticeTimeout = std::chrono::seconds(10);

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
    void* at = ::mmap(nullptr, made.size_, PROT_READ, MAP_SHARED | MAP_POPULATE,
                      fd, static_cast<off_t>(UBLKSRV_CMD_BUF_OFFSET +
                                             queue * most));
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
  // A copy: the kernel's memory.
  ublksrv_io_desc Get(uint16_t tag) const {
    std::atomic_thread_fence(std::memory_order_acquire);
    return at_[tag];
  }

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

// The kernel learns of the old server's death a moment after it, and udev may
// be slow with a new device.
template <typename Try>
Status Patiently(Try attempt) {
  const auto deadline = std::chrono::steady_clock::now() + kNoticeTimeout;
  for (;;) {
    Status status = attempt();
    const bool over = std::chrono::steady_clock::now() >= deadline;
    if (status || status.error().code != ErrorCode::kUnavailable || over) {
      return status;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

Result<UniqueFd> OpenChar(uint32_t id) {
  UniqueFd fd;
  Status status = Patiently([&]() -> Status {
    fd.reset(::open(UblkCharPath(id).c_str(), O_RDWR | O_CLOEXEC));
    if (fd) return OkStatus();
    if (errno == ENOENT || errno == EBUSY) {
      return Error{ErrorCode::kUnavailable,
                   UblkCharPath(id) + ": " + std::strerror(errno)};
    }
    return ErrnoError(errno, UblkCharPath(id));
  });
  if (!status) return status.error();
  return fd;
}

// Blocking: a new device, or that of an earlier life.
Result<Attached> Attach(const UblkDevice& wanted, std::optional<uint32_t> ours) {
  auto control = UblkControl::Open();
  if (!control) return control.error();
  if (!ours && wanted.name != 0) ours = (*control)->Find(wanted.name);
  Attached attached{0, UniqueFd(), wanted.queues, wanted.queue_depth, false};
  if (ours) {
    attached.id = *ours;
    attached.taken_over = true;
    auto s = Patiently([&] { return (*control)->StartRecovery(*ours); });
    if (!s) return s.error();
    const auto info = (*control)->Info(*ours);
    if (!info) return info.error();
    attached.queues = info->nr_hw_queues;
    attached.queue_depth = info->queue_depth;
  } else {
    const auto id = (*control)->Add(wanted);
    if (!id) return id.error();
    attached.id = *id;
  }
  auto fd = OpenChar(attached.id);
  if (!fd) {
    if (!ours) (void)(*control)->Delete(attached.id);
    return fd.error();
  }
  attached.fd = std::move(*fd);
  return attached;
}

// Blocking: with its server ready.
Status GoOn(uint32_t id, bool taken_over, uint64_t size_bytes) {
  auto control = UblkControl::Open();
  if (!control) return control.error();
  const Status s =
      taken_over ? (*control)->EndRecovery(id) : (*control)->Start(id);
  if (!s) return s;
  return CheckDeviceSize(UblkBlockName(id), size_bytes);
}

// Blocking: while its server still answers.
Status StopDevice(uint32_t id, bool claim) {
  if (claim) {
    const auto claimed = ClaimAndFlushDevice(UblkBlockName(id));
    if (!claimed) return claimed.error();
  }
  auto control = UblkControl::Open();
  if (!control) return control.error();
  return (*control)->Stop(id);
}

Status DeleteDevice(uint32_t id) {
  auto control = UblkControl::Open();
  if (!control) return control.error();
  return (*control)->Delete(id);
}

class UblkFrontend final : public Frontend {
 public:
  UblkFrontend(IoLoop& loop, BlockService& service, UblkFrontendOptions options)
      : loop_(loop), service_(service), options_(std::move(options)) {}

  Task<Result<std::string>> Start() override {
    if (service_.size_bytes() % kSectorBytes != 0) {
      co_return Error{ErrorCode::kInvalid,
                      "a block device of half a sector cannot be"};
    }
    auto attaching =
        OnThread(loop_, [device = DeviceWanted(), ours = KeptId()] {
          return Attach(device, ours);
        });
    auto attached = co_await attaching;
    if (!attached) co_return attached.error();
    id_ = attached->id;
    fd_ = std::move(attached->fd);
    Status status = Serve(attached->queues, attached->queue_depth);
    if (status) {
      auto going = OnThread(loop_, [id = id_, taken = attached->taken_over,
                                    size = service_.size_bytes()] {
        return GoOn(id, taken, size);
      });
      status = co_await going;
    }
    if (!status) {
      if (!attached->taken_over) (void)co_await TakeAway(/*claim=*/false);
      co_return status.error();
    }
    if (options_.kept != nullptr) {
      const Status s = options_.kept->KeepText(kKeptName, std::to_string(id_));
      if (!s && options_.log) options_.log(s.error().message);
    }
    co_return DevicePath(UblkBlockName(id_));
  }

  Task<Status> Stop() override { co_return co_await TakeAway(/*claim=*/true); }

 private:
  UblkDevice DeviceWanted() const {
    UblkDevice device;
    device.size_bytes = service_.size_bytes();
    device.read_only = options_.read_only;
    device.queues = options_.queues;
    device.queue_depth = options_.queue_depth;
    device.name = options_.name;
    return device;
  }

  std::optional<uint32_t> KeptId() const {
    if (options_.kept == nullptr) return std::nullopt;
    const auto text = options_.kept->TakeText(kKeptName);
    uint32_t id = 0;
    if (!text || std::from_chars(text->data(), text->data() + text->size(), id)
                         .ec != std::errc()) {
      return std::nullopt;
    }
    return id;
  }

  // A coroutine for each request that may be under way.
  Status Serve(uint16_t queues, uint16_t depth) {
    queues_.reserve(queues);
    for (uint16_t queue = 0; queue < queues; ++queue) {
      auto mapped = Descriptors::Map(fd_.get(), queue, depth);
      if (!mapped) return mapped.error();
      queues_.push_back(std::move(*mapped));
    }
    serving_ = size_t{queues} * depth;
    for (uint16_t queue = 0; queue < queues; ++queue) {
      for (uint16_t tag = 0; tag < depth; ++tag) Spawn(ServeTag(queue, tag));
    }
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
      if (said != UBLK_IO_RES_OK) break;
      result = co_await Carry(queue, tag, queues_[queue].Get(tag));
      operation = _IOWR('u', UBLK_IO_COMMIT_AND_FETCH_REQ, ublksrv_io_cmd);
    }
    if (--serving_ > 0) co_return;
    // Whoever waits for us takes the descriptors away.
    loop_.PostAfter(Executor::Duration(0), [this] { ended_.Set(); });
  }

  // Bytes done, or minus errno.
  Task<int> Carry(uint16_t queue, uint16_t tag, ublksrv_io_desc request) {
    const uint64_t offset = request.start_sector * kSectorBytes;
    const uint64_t size = uint64_t{request.nr_sectors} * kSectorBytes;
    const uint64_t end = service_.size_bytes();
    if (offset > end || size > end - offset) co_return -EIO;
    const bool fua = (request.op_flags & UBLK_IO_F_FUA) != 0;
    Status done = OkStatus();
    switch (ublksrv_get_op(&request)) {
      case UBLK_IO_OP_READ:
        co_return co_await CarryRead(DataOffset(queue, tag), offset, size);
      case UBLK_IO_OP_WRITE:
        co_return co_await CarryWrite(DataOffset(queue, tag), offset, size,
                                      fua);
      case UBLK_IO_OP_FLUSH:
        done = co_await service_.Flush();
        break;
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
    if (size == 0 || size > BufferPool::kBufferBytesMax) co_return -EIO;
    BufferPool::Lease payload = pool_.Take(size);
    const Status done = co_await service_.Read(offset, payload.span());
    if (!done) co_return ErrnoOf(done.error());
    const ssize_t n = ::pwrite(fd_.get(), payload.span().data(), size, data);
    co_return n == static_cast<ssize_t>(size) ? static_cast<int>(size) : -EIO;
  }

  Task<int> CarryWrite(off_t data, uint64_t offset, uint64_t size, bool fua) {
    if (size == 0 || size > BufferPool::kBufferBytesMax) co_return -EIO;
    BufferPool::Lease payload = pool_.Take(size);
    const ssize_t n = ::pread(fd_.get(), payload.span().data(), size, data);
    if (n != static_cast<ssize_t>(size)) co_return -EIO;
    const Status done = co_await service_.Write(offset, payload.span(), fua);
    co_return done ? static_cast<int>(size) : ErrnoOf(done.error());
  }

  static int ErrnoOf(const Error& error) {
    return error.code == ErrorCode::kNoSpace ? -ENOSPC : -EIO;
  }

  Task<Status> TakeAway(bool claim) {
    auto stopping =
        OnThread(loop_, [id = id_, claim] { return StopDevice(id, claim); });
    Status status = co_await stopping;
    if (!status) co_return status;
    if (serving_ > 0) co_await ended_;
    queues_.clear();
    fd_.reset();
    auto deleting = OnThread(loop_, [id = id_] { return DeleteDevice(id); });
    co_return co_await deleting;
  }

  IoLoop& loop_;
  BlockService& service_;
  const UblkFrontendOptions options_;
  BufferPool pool_;
  uint32_t id_ = 0;
  UniqueFd fd_;
  std::vector<Descriptors> queues_;
  size_t serving_ = 0;
  Event ended_;
};

}  // namespace

std::unique_ptr<Frontend> MakeUblkFrontend(IoLoop& loop, BlockService& service,
                                           UblkFrontendOptions options) {
  return std::make_unique<UblkFrontend>(loop, service, std::move(options));
}

}  // namespace bootstream
