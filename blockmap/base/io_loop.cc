#include "blockmap/base/io_loop.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

namespace bootstream {

namespace {

// Only the thread that runs the loop submits, and completions are delivered
// when it asks for them, without interrupting it (Linux 6.1).
constexpr unsigned kOneThread = IORING_SETUP_SINGLE_ISSUER |
                                IORING_SETUP_DEFER_TASKRUN |
                                IORING_SETUP_R_DISABLED;

int MakeRing(unsigned entries, unsigned flags, io_uring& ring) {
  io_uring_params params{};
  params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | flags;
  params.cq_entries = entries * 16;
  return io_uring_queue_init_params(entries, &ring, &params);
}

}  // namespace

Result<std::unique_ptr<IoLoop>> IoLoop::Create(unsigned entries) {
  std::unique_ptr<IoLoop> loop(new IoLoop);
  loop->wake_fd_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!loop->wake_fd_) return ErrnoError(errno, "eventfd");
  int error = MakeRing(entries, kOneThread, loop->ring_);
  loop->disabled_ = error == 0;
  if (error == -EINVAL) error = MakeRing(entries, 0, loop->ring_);
  if (error < 0) return ErrnoError(-error, "io_uring_setup");
  loop->ring_ready_ = true;
  loop->wake_.loop = loop.get();
  loop->wake_.complete = [](Operation& operation, int) {
    static_cast<WakeOperation&>(operation).loop->ArmWake();
  };
  loop->ArmWake();
  return loop;
}

IoLoop::~IoLoop() {
  if (ring_ready_) io_uring_queue_exit(&ring_);
}

void IoLoop::ArmWake() {
  Submit(wake_, [this](io_uring_sqe* sqe) {
    io_uring_prep_read(sqe, wake_fd_.get(), &wake_.value, sizeof wake_.value,
                       0);
  });
}

void IoLoop::Post(std::function<void()> work) {
  bool first = false;
  {
    const std::lock_guard lock(posted_mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(work));
  }
  if (!first) return;  // whoever posted first has woken the loop
  const uint64_t one = 1;
  while (::write(wake_fd_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void IoLoop::PostAfter(Duration delay, std::function<void()> work) {
  timers_.push(Timer{Now() + delay, timer_order_++, std::move(work)});
}

Executor::Duration IoLoop::Now() const {
  return std::chrono::steady_clock::now().time_since_epoch();
}

void IoLoop::Stop() {
  Post([this] { stopping_ = true; });
}

// From here on the ring is this thread's.
void IoLoop::Enable() {
  if (!std::exchange(disabled_, false)) return;
  const long done = ::syscall(__NR_io_uring_register, ring_.ring_fd,
                              IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  if (done != 0) std::abort();  // cannot be, of a ring made disabled
}

void IoLoop::Run() {
  Enable();
  while (!stopping_) {
    RunPosted();
    RunTimers();
    if (!stopping_) WaitAndComplete();
  }
}

void IoLoop::RunPosted() {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock(posted_mutex_);
    work.swap(posted_);
  }
  for (auto& item : work) item();
}

void IoLoop::RunTimers() {
  const Duration now = Now();
  while (!timers_.empty() && timers_.top().when <= now) {
    auto work = std::move(const_cast<Timer&>(timers_.top()).work);
    timers_.pop();
    work();
  }
}

void IoLoop::SubmitNow() {
  Enable();
  io_uring_submit(&ring_);
}

io_uring_sqe* IoLoop::NextEntry() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    SubmitNow();
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void IoLoop::WaitAndComplete() {
  io_uring_cqe* cqe = nullptr;
  if (timers_.empty()) {
    io_uring_submit_and_wait(&ring_, 1);
  } else {
    const auto left =
        std::max<Duration>(timers_.top().when - Now(), Duration(0));
    __kernel_timespec timeout{};
    timeout.tv_sec = left.count() / 1'000'000'000;
    timeout.tv_nsec = left.count() % 1'000'000'000;
    io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
  }
  // A bounded batch, so that timers and posted work get their turn.
  for (int i = 0; i < 512 && io_uring_peek_cqe(&ring_, &cqe) == 0; ++i) {
    auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(cqe));
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    if (operation != nullptr) operation->complete(*operation, result);
  }
}

Task<Status> IoLoop::RecvAll(int fd, std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    const int n = co_await Recv(fd, out.subspan(done), MSG_WAITALL);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return ErrnoError(-n, "recv");
    if (n == 0 && done == 0) {
      co_return Error{ErrorCode::kUnavailable, "the peer closed"};
    }
    if (n == 0) co_return Error{ErrorCode::kIo, "the peer closed half way"};
    done += static_cast<size_t>(n);
  }
  co_return OkStatus();
}

Task<Status> IoLoop::SendAll(int fd, std::span<const std::byte> data,
                             int flags) {
  while (!data.empty()) {
    const int n = co_await Send(fd, data, flags);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return ErrnoError(-n, "send");
    data = data.subspan(static_cast<size_t>(n));
  }
  co_return OkStatus();
}

}  // namespace bootstream
