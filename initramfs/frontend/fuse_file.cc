#include "initramfs/frontend/fuse_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/types.h"

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>

namespace bootstream {
namespace {

constexpr fuse_ino_t kFileInode = 2;
constexpr double kForeverSeconds = 1e6;
constexpr unsigned kBackgroundMax = 128;
constexpr int kRequestsPerTurn = 64;
constexpr auto kReleaseTimeout = std::chrono::seconds(5);

// linux/fuse.h of Linux 6.9; Debian 12's is older.
constexpr int kNotifyResend = 7;         // FUSE_NOTIFY_RESEND
constexpr uint32_t kHasResend = 1 << 7;  // FUSE_HAS_RESEND, in flags2

// A request is read to such an address that the payload of a WRITE begins on a
// block boundary.
constexpr size_t kHeaderBytes = sizeof(fuse_in_header) + sizeof(fuse_write_in);
constexpr size_t kHeaderOffset = kBlockBytes - kHeaderBytes;
constexpr size_t kRequestBytesMax = FuseFile::kWriteBytesMax + kBlockBytes;
// Smaller payloads are copied, larger ones keep the buffer they came in.
constexpr size_t kCopiedBytesMax = 128 << 10;

int ErrnoOf(const Error& error) {
  return error.code == ErrorCode::kNoSpace ? ENOSPC : EIO;
}

class FuseFileImpl final : public FuseFile {
 public:
  using OnBegin = std::function<void(const FuseSession&)>;

  FuseFileImpl(IoLoop& loop, BlockService& service, std::string file_name,
               std::function<void()> on_gone, OnBegin on_begin)
      : loop_(loop),
        service_(service),
        file_name_(std::move(file_name)),
        on_gone_(std::move(on_gone)),
        on_begin_(std::move(on_begin)) {}

  ~FuseFileImpl() override {
    if (session_ != nullptr) fuse_session_destroy(session_);
  }

  Status Open(const std::string& directory) {
    if (auto s = NewSession(); !s) return s;
    if (fuse_session_mount(session_, directory.c_str()) != 0) {
      return Error{ErrorCode::kUnsupported,
                   "cannot mount a FUSE file system on " + directory +
                       "; is the kernel module fuse loaded?"};
    }
    return Begin();
  }

  // libfuse is told of a request to begin that the kernel has had answered long
  // ago: the kernel has no use for this answer, and says nothing.
  Status Resume(UniqueFd device, const FuseSession& session) {
    if (auto s = NewSession(); !s) return s;
    const std::string name = "/dev/fd/" + std::to_string(device.get());
    if (fuse_session_mount(session_, name.c_str()) != 0) {
      return Error{ErrorCode::kIo, "libfuse: cannot adopt a connection"};
    }
    (void)device.release();  // the session's
    std::vector<std::byte> init = session.init_request;
    Process(init.data(), init.size());
    if (fuse_session_exited(session_) != 0) {
      return Error{ErrorCode::kIo, "libfuse: refuses the connection"};
    }
    fuse_out_header resend{};
    resend.len = sizeof resend;
    resend.error = kNotifyResend;
    if (::write(fuse_session_fd(session_), &resend, sizeof resend) < 0) {
      return ErrnoError(errno, "FUSE: have requests sent again");
    }
    return Begin();
  }

  Status NewSession() {
    std::array<const char*, 3> words = {"bootstream", "-o",
                                        "fsname=bootstream"};
    fuse_args args = FUSE_ARGS_INIT(static_cast<int>(words.size()),
                                    const_cast<char**>(words.data()));
    const fuse_lowlevel_ops operations = Operations();
    session_ = fuse_session_new(&args, &operations, sizeof operations, this);
    fuse_opt_free_args(&args);
    if (session_ == nullptr) {
      return Error{ErrorCode::kIo, "libfuse: cannot make a session"};
    }
    return OkStatus();
  }

  Status Begin() {
    fd_ = fuse_session_fd(session_);
    const int flags = ::fcntl(fd_, F_GETFL);
    if (flags < 0 || ::fcntl(fd_, F_SETFL, flags | O_NONBLOCK) != 0) {
      return ErrnoError(errno, "fcntl /dev/fuse");
    }
    Spawn(Pump());
    return OkStatus();
  }

  Task<Status> Close() override {
    // Whoever finds the kernel still there when the time is up, leaves it.
    loop_.PostAfter(kReleaseTimeout, [alive = alive_, this] {
      if (*alive) Spawn(CancelPoll());
    });
    co_await ended_;
    while (requests_ > 0) co_await Change{*this};
    co_await loop_.Yield();
    fuse_session_unmount(session_);
    fuse_session_destroy(std::exchange(session_, nullptr));
    *alive_ = false;
    co_return OkStatus();
  }

 private:
  struct Change {
    FuseFileImpl& file;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
      file.waiter_ = handle;
    }
    void await_resume() {}
  };

  Task<void> CancelPoll() {
    co_await loop_.Do(
        [fd = fd_](io_uring_sqe* sqe) { io_uring_prep_cancel_fd(sqe, fd, 0); });
  }

  // Reads requests until the file system is gone.
  Task<void> Pump() {
    while (true) {
      const int events = co_await loop_.Poll(fd_, POLLIN);
      if (events == -EINTR || events == -EAGAIN) continue;
      if (events < 0 || !ReadRequests()) break;
    }
    on_gone_();
    ended_.Set();
  }

  // False: there will be no more.
  bool ReadRequests() {
    for (int i = 0; i < kRequestsPerTurn; ++i) {
      if (input_.size() == 0)
        input_ = AlignedBuffer::Unfilled(kRequestBytesMax);
      std::byte* begin = input_.span().data() + kHeaderOffset;
      const ssize_t n = ::read(fd_, begin, kRequestBytesMax - kHeaderOffset);
      if (n < 0) {
        // ENOENT: the request was interrupted before we got it.
        if (errno == EINTR || errno == ENOENT) continue;
        return errno == EAGAIN;
      }
      if (n == 0) return false;
      if (on_begin_) NoteBegin({begin, static_cast<size_t>(n)});
      Process(begin, static_cast<size_t>(n));
      if (fuse_session_exited(session_) != 0) return false;
    }
    return true;
  }

  void Process(std::byte* bytes, size_t size) {
    fuse_buf request{};
    request.mem = bytes;
    request.size = size;
    fuse_session_process_buf(session_, &request);
  }

  void NoteBegin(std::span<const std::byte> request) {
    FuseSession session = FuseSession::From(request);
    session.device = fd_;
    std::exchange(on_begin_, nullptr)(session);
  }

  static FuseFileImpl& Of(fuse_req_t request) {
    return *static_cast<FuseFileImpl*>(fuse_req_userdata(request));
  }

  struct stat Attributes(fuse_ino_t inode) const {
    struct stat info {};
    info.st_ino = inode;
    info.st_nlink = 1;
    info.st_blksize = kBlockBytes;
    if (inode == kFileInode) {
      info.st_mode = S_IFREG | 0600;
      info.st_size = static_cast<off_t>(service_.size_bytes());
      info.st_blocks =
          static_cast<blkcnt_t>(service_.size_bytes() / kSectorBytes);
    } else {
      info.st_mode = S_IFDIR | 0700;
    }
    return info;
  }

  // The operations of libfuse; each answers its request sooner or later.

  static void Init(void*, fuse_conn_info* connection) {
    connection->want &= ~static_cast<unsigned>(
        FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    connection->max_write = kWriteBytesMax;
    connection->max_background = kBackgroundMax;
    connection->congestion_threshold = kBackgroundMax;
  }

  static void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
    const FuseFileImpl& self = Of(request);
    if (parent != FUSE_ROOT_ID || self.file_name_ != name) {
      fuse_reply_err(request, ENOENT);
      return;
    }
    fuse_entry_param entry{};
    entry.ino = kFileInode;
    entry.attr = self.Attributes(kFileInode);
    entry.attr_timeout = kForeverSeconds;
    entry.entry_timeout = kForeverSeconds;
    fuse_reply_entry(request, &entry);
  }

  static void GetAttributes(fuse_req_t request, fuse_ino_t inode,
                            fuse_file_info*) {
    const struct stat info = Of(request).Attributes(inode);
    fuse_reply_attr(request, &info, kForeverSeconds);
  }

  static void OpenFile(fuse_req_t request, fuse_ino_t inode,
                       fuse_file_info* info) {
    if (inode != kFileInode) {
      fuse_reply_err(request, EISDIR);
      return;
    }
    info->direct_io = 1;
    fuse_reply_open(request, info);
  }

  static void FileSystemSize(fuse_req_t request, fuse_ino_t) {
    struct statvfs info {};
    info.f_bsize = kBlockBytes;  // a loop device's granularity of discards
    info.f_frsize = kBlockBytes;
    info.f_blocks = Of(request).service_.size_bytes() / kBlockBytes;
    info.f_namemax = 255;
    fuse_reply_statfs(request, &info);
  }

  static void Read(fuse_req_t request, fuse_ino_t, size_t size, off_t offset,
                   fuse_file_info*) {
    FuseFileImpl& self = Of(request);
    const auto at = static_cast<uint64_t>(offset);
    const uint64_t end = self.service_.size_bytes();
    if (offset < 0 || size > kWriteBytesMax) {
      fuse_reply_err(request, EINVAL);
      return;
    }
    const auto part =
        static_cast<size_t>(at < end ? std::min<uint64_t>(size, end - at) : 0);
    if (part == 0) {
      fuse_reply_buf(request, nullptr, 0);
      return;
    }
    Spawn(self.CarryRead(request, at, part));
  }

  static void Write(fuse_req_t request, fuse_ino_t, const char* data,
                    size_t size, off_t offset, fuse_file_info*) {
    FuseFileImpl& self = Of(request);
    if (!self.Inside(offset, size)) {
      fuse_reply_err(request, ENOSPC);
      return;
    }
    if (size == 0) {
      fuse_reply_write(request, 0);
      return;
    }
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    AlignedBuffer payload;
    if (size <= kCopiedBytesMax) {
      payload = AlignedBuffer::Unfilled(size);
      std::memcpy(payload.span().data(), bytes, size);
      bytes = payload.span().data();
    } else {
      payload = std::move(self.input_);
    }
    Spawn(self.CarryWrite(request, static_cast<uint64_t>(offset),
                          std::span(bytes, size), std::move(payload)));
  }

  static void Sync(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
    FuseFileImpl& self = Of(request);
    Spawn(self.CarryStatus(request, self.service_.Flush()));
  }

  static void Allocate(fuse_req_t request, fuse_ino_t, int mode, off_t offset,
                       off_t length, fuse_file_info*) {
    FuseFileImpl& self = Of(request);
    const int zeroing = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    if ((mode & zeroing) == 0 || (mode & ~(zeroing | FALLOC_FL_KEEP_SIZE))) {
      fuse_reply_err(request, EOPNOTSUPP);
      return;
    }
    if (length <= 0 || !self.Inside(offset, static_cast<uint64_t>(length))) {
      fuse_reply_err(request, EINVAL);
      return;
    }
    Spawn(self.CarryStatus(request, self.service_.WriteZeroes(
                                        static_cast<uint64_t>(offset),
                                        static_cast<uint64_t>(length), false)));
  }

  static fuse_lowlevel_ops Operations() {
    fuse_lowlevel_ops operations{};
    operations.init = Init;
    operations.lookup = Lookup;
    operations.getattr = GetAttributes;
    operations.open = OpenFile;
    operations.statfs = FileSystemSize;
    operations.read = Read;
    operations.write = Write;
    operations.fsync = Sync;
    operations.fallocate = Allocate;
    return operations;
  }

  bool Inside(off_t offset, uint64_t size) const {
    const uint64_t end = service_.size_bytes();
    return offset >= 0 && static_cast<uint64_t>(offset) <= end &&
           size <= end - static_cast<uint64_t>(offset);
  }

  Task<void> CarryRead(fuse_req_t request, uint64_t offset, size_t size) {
    ++requests_;
    {
      auto payload = AlignedBuffer::Unfilled(size);
      const Status done = co_await service_.Read(offset, payload.span());
      if (done) {
        fuse_reply_buf(request,
                       reinterpret_cast<const char*>(payload.span().data()),
                       size);
      } else {
        fuse_reply_err(request, ErrnoOf(done.error()));
      }
    }
    Finished();
  }

  // `data` lies in `payload`.
  Task<void> CarryWrite(fuse_req_t request, uint64_t offset,
                        std::span<const std::byte> data,
                        AlignedBuffer payload) {
    ++requests_;
    const Status done = co_await service_.Write(offset, data, false);
    payload = {};
    if (done) {
      fuse_reply_write(request, data.size());
    } else {
      fuse_reply_err(request, ErrnoOf(done.error()));
    }
    Finished();
  }

  Task<void> CarryStatus(fuse_req_t request, Task<Status> work) {
    ++requests_;
    const Status done = co_await work;
    fuse_reply_err(request, done ? 0 : ErrnoOf(done.error()));
    Finished();
  }

  void Finished() {
    --requests_;
    if (auto waiter = std::exchange(waiter_, {})) waiter.resume();
  }

  IoLoop& loop_;
  BlockService& service_;
  const std::string file_name_;
  const std::function<void()> on_gone_;
  OnBegin on_begin_;     // until the first request has come
  AlignedBuffer input_;  // where the next request is read to
  fuse_session* session_ = nullptr;
  int fd_ = -1;  // of the session
  size_t requests_ = 0;
  std::coroutine_handle<> waiter_;
  Event ended_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace

FuseSession FuseSession::From(std::span<const std::byte> init_request) {
  FuseSession session;
  session.init_request.assign(init_request.begin(), init_request.end());
  fuse_in_header header{};
  fuse_init_in init{};
  if (init_request.size() < sizeof header + sizeof init) return session;
  std::memcpy(&header, init_request.data(), sizeof header);
  std::memcpy(&init, init_request.data() + sizeof header, sizeof init);
  session.can_resend = header.opcode == FUSE_INIT &&
                       (init.flags & FUSE_INIT_EXT) != 0 &&
                       (init.flags2 & kHasResend) != 0;
  return session;
}

Result<std::unique_ptr<FuseFile>> FuseFile::Mount(
    IoLoop& loop, BlockService& service, const std::string& directory,
    const std::string& file_name, std::function<void()> on_gone,
    std::function<void(const FuseSession&)> on_begin) {
  auto file = std::make_unique<FuseFileImpl>(
      loop, service, file_name, std::move(on_gone), std::move(on_begin));
  if (auto s = file->Open(directory); !s) return s.error();
  return std::unique_ptr<FuseFile>(std::move(file));
}

Result<std::unique_ptr<FuseFile>> FuseFile::Adopt(
    IoLoop& loop, BlockService& service, UniqueFd device,
    const FuseSession& session, std::function<void()> on_gone) {
  auto file = std::make_unique<FuseFileImpl>(loop, service, "",
                                             std::move(on_gone), nullptr);
  if (auto s = file->Resume(std::move(device), session); !s) return s.error();
  return std::unique_ptr<FuseFile>(std::move(file));
}

}  // namespace bootstream
