#include "initramfs/keeper/keeper.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <optional>
#include <utility>

namespace bootstream {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr auto kShortLife = std::chrono::seconds(1);
constexpr milliseconds kDelayFirst{50};
constexpr milliseconds kDelayMax{5000};
constexpr auto kForkRetry = std::chrono::seconds(1);

// How long the next worker waits after so many short lives in a row.
milliseconds DelayAfter(unsigned short_lives) {
  if (short_lives < 2) return milliseconds(0);
  const unsigned doublings = std::min(short_lives - 2, 10U);
  return std::min(kDelayFirst * (1 << doublings), kDelayMax);
}

std::string HowItEnded(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    return "was killed by signal " + std::to_string(WTERMSIG(wait_status));
  }
  return "ended with " + std::to_string(WEXITSTATUS(wait_status));
}

class Keeper {
 public:
  explicit Keeper(const KeeperHooks& hooks) : hooks_(hooks) {}

  int Run() {
    if (auto s = CatchSignals(); !s) return Fail(s.error().message, 1);
    ::prctl(PR_SET_NAME, "bootstream-keep");
    for (;;) {
      if (auto s = Fork(); !s) {
        if (!ready_) return Fail(s.error().message, 1);
        hooks_.log(s.error().message);
        Pause(kForkRetry);
        continue;
      }
      const Clock::time_point born = Clock::now();
      const int wait_status = WatchWorker();
      if (const auto code = EndsWith(wait_status)) return *code;
      NoteLife(wait_status, Clock::now() - born);
      ++restarts_;
      hooks_.log("the worker " + HowItEnded(wait_status) +
                 "; the next one begins, number " + std::to_string(restarts_));
      Pause(DelayAfter(short_lives_));
    }
  }

 private:
  // A worker that was serving and is killed from outside has done nothing
  // wrong; one that crashes over and over will do it again.
  void NoteLife(int wait_status, Clock::duration age) {
    const bool served = std::exchange(serving_, false);
    const bool killed =
        WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL;
    const bool in_vain = !served || (!killed && age < kShortLife);
    short_lives_ = in_vain ? short_lives_ + 1 : 0;
  }

  int Fail(const std::string& line, int code) {
    hooks_.failed("streamd: " + line, code);
    return code;
  }

  Status CatchSignals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&set, number);
    if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) {
      return ErrnoError(errno, "sigprocmask");
    }
    ::signal(SIGPIPE, SIG_IGN);
    signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) return ErrnoError(errno, "signalfd");
    return OkStatus();
  }

  // Returns in the keeper only.
  Status Fork() {
    std::array<int, 2> ends;
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) !=
        0) {
      return ErrnoError(errno, "socketpair");
    }
    UniqueFd theirs(ends[1]);
    channel_.reset(ends[0]);
    keeper_ = ::getpid();
    worker_ = ::fork();
    if (worker_ < 0) return ErrnoError(errno, "fork");
    if (worker_ == 0) Work(std::move(theirs));
    if (told_to_end_) ::kill(worker_, SIGTERM);
    return OkStatus();
  }

  // SIGTERM and SIGINT stay blocked until the worker takes them.
  [[noreturn]] void Work(UniqueFd channel) {
    ::prctl(PR_SET_NAME, "streamd");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
    signals_.reset();
    channel_.reset();
    if (hooks_.end_with_keeper) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (::getppid() != keeper_) ::raise(SIGTERM);  // it was too late
    }
    const int code =
        hooks_.work(FdStore(std::move(channel), std::move(kept_), restarts_));
    std::cout.flush();
    std::fflush(nullptr);
    ::_exit(code);
  }

  // Until the worker has ended and everything that it said is heard; how it
  // ended, as waitpid(2) says.
  int WatchWorker() {
    for (;;) {
      std::array<pollfd, 2> polled = {
          {{signals_.get(), POLLIN, 0}, {channel_.get(), POLLIN, 0}}};
      ::poll(polled.data(), channel_ ? 2 : 1, -1);
      TakeSignals();
      int wait_status = 0;
      const bool ended = ::waitpid(worker_, &wait_status, WNOHANG) == worker_;
      Listen();
      if (ended) return wait_status;
      // It hung up and has not ended yet: nothing more to be heard.
      if ((polled[1].revents & POLLHUP) != 0) channel_.reset();
    }
  }

  void TakeSignals() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGCHLD) continue;
      told_to_end_ = true;
      if (worker_ > 0) ::kill(worker_, SIGTERM);
    }
  }

  void Listen() {
    while (channel_) {
      auto message = ReceiveFromWorker(channel_.get());
      if (!message) return;
      switch (message->word) {
        case KeeperWord::kKeep:
          if (message->fd) kept_[message->text] = std::move(message->fd);
          break;
        case KeeperWord::kReady:
          serving_ = true;
          if (!std::exchange(ready_, true)) hooks_.ready(message->text);
          break;
        case KeeperWord::kFailed:
          failure_ = std::move(*message);
          break;
        case KeeperWord::kRefused:
          told_to_end_ = false;
          break;
        case KeeperWord::kForget:
          std::erase_if(kept_, [&](const auto& item) {
            return item.first.starts_with(message->text);
          });
          break;
      }
    }
  }

  // The keeper's exit code, if this was the end.
  std::optional<int> EndsWith(int wait_status) {
    worker_ = -1;
    const auto failure = std::exchange(failure_, std::nullopt);
    const int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
    if (!ready_) {
      if (failure) hooks_.failed(failure->text, failure->number);
      if (failure) return failure->number;
      if (code == 0) return 0;
      return Fail(
          "the worker " + HowItEnded(wait_status) + " before it was ready", 1);
    }
    if (failure) hooks_.log(failure->text);
    if (code == 0 || (code > 0 && told_to_end_)) return code;
    return std::nullopt;
  }

  // Signals wake us: they are for the next worker.
  void Pause(Clock::duration delay) {
    const auto until = Clock::now() + delay;
    for (;;) {
      const auto left =
          std::chrono::ceil<milliseconds>(until - Clock::now()).count();
      if (left <= 0) return;
      pollfd polled{signals_.get(), POLLIN, 0};
      ::poll(&polled, 1, static_cast<int>(left));
      TakeSignals();
    }
  }

  const KeeperHooks& hooks_;
  UniqueFd signals_;
  UniqueFd channel_;  // to the worker
  pid_t keeper_ = -1;
  pid_t worker_ = -1;
  std::map<std::string, UniqueFd> kept_;
  std::optional<KeeperMessage> failure_;
  bool ready_ = false;    // some worker has served
  bool serving_ = false;  // this one has
  bool told_to_end_ = false;
  unsigned restarts_ = 0;
  unsigned short_lives_ = 0;
};

}  // namespace

int RunKeeper(const KeeperHooks& hooks) { return Keeper(hooks).Run(); }

}  // namespace bootstream
