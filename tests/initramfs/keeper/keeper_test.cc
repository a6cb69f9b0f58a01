#include "initramfs/keeper/keeper.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

namespace bootstream {
namespace {

constexpr int kWrong = 77;

// A keeper in a process of its own; `said` is what its hooks were told.
struct KeeperRun {
  int exit_code = -1;
  std::string said;
};

class KeeperTest : public testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> ends;
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    reader_.reset(ends[0]);
    writer_.reset(ends[1]);
  }

  void Tell(const std::string& line) {
    ASSERT_EQ(::write(writer_.get(), line.data(), line.size()),
              static_cast<ssize_t>(line.size()));
  }

  pid_t Begin(std::function<int(FdStore)> work) {
    const pid_t pid = ::fork();
    if (pid != 0) {
      writer_.reset();
      return pid;
    }
    KeeperHooks hooks;
    hooks.work = std::move(work);
    hooks.ready = [this](const std::string& line) { Tell("ready " + line); };
    hooks.failed = [this](const std::string& line, int code) {
      Tell("failed " + std::to_string(code) + " " + line);
    };
    hooks.log = [](const std::string&) {};
    hooks.end_with_keeper = end_with_keeper_;
    ::_exit(RunKeeper(hooks));
  }

  std::string Hear() {
    std::array<char, 512> text;
    const ssize_t n = ::read(reader_.get(), text.data(), text.size());
    return n <= 0 ? "" : std::string(text.data(), static_cast<size_t>(n));
  }

  KeeperRun End(pid_t pid) {
    KeeperRun run;
    for (std::string more = Hear(); !more.empty(); more = Hear()) {
      run.said += more;
    }
    int wait_status = 0;
    EXPECT_EQ(::waitpid(pid, &wait_status, 0), pid);
    EXPECT_TRUE(WIFEXITED(wait_status));
    run.exit_code = WEXITSTATUS(wait_status);
    return run;
  }

  KeeperRun Run(std::function<int(FdStore)> work) {
    return End(Begin(std::move(work)));
  }

  UniqueFd reader_;
  UniqueFd writer_;
  bool end_with_keeper_ = false;
};

TEST_F(KeeperTest, EveryLaterWorkerFindsWhatWasKept) {
  const KeeperRun run = Run([](FdStore store) {
    const unsigned life = store.restarts();
    if (life == 0) {
      if (store.TakeText("note")) return kWrong;
      if (!store.KeepText("note", "old") || !store.KeepText("note", "new")) {
        return kWrong;
      }
      store.Say(KeeperWord::kReady, "here");
    } else if (store.TakeText("note") != "new") {
      return kWrong;
    }
    if (life < 3) ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.said, "ready here");
}

// The last worker tells what it has found: one that ended with an error would
// be started again.
TEST_F(KeeperTest, ABranchHasNamesOfItsOwn) {
  const KeeperRun run = Run([this](FdStore store) {
    auto branch = store.Branch("other-");
    if (!branch) return kWrong;
    if (store.restarts() == 0) {
      if (!store.KeepText("note", "one") || !branch->KeepText("note", "two")) {
        return kWrong;
      }
      store.Say(KeeperWord::kReady, "");
      ::raise(SIGKILL);
    }
    const bool right = store.TakeText("note") == "one" &&
                       branch->TakeText("note") == "two" &&
                       !store.TakeText("other-note");
    Tell(right ? "right" : "wrong");
    return 0;
  });
  EXPECT_EQ(run.said, "ready right");
}

TEST_F(KeeperTest, WhatABranchForgetsIsGoneAndNothingElse) {
  const KeeperRun run = Run([this](FdStore store) {
    auto branch = store.Branch("other-");
    if (!branch) return kWrong;
    const unsigned life = store.restarts();
    if (life == 0) {
      if (!store.KeepText("note", "one") || !branch->KeepText("a", "1") ||
          !branch->KeepText("b", "2")) {
        return kWrong;
      }
    } else if (life == 1) {
      if (!branch->ForgetAll() || branch->TakeText("a")) Tell("not at once ");
      if (!branch->KeepText("b", "3")) return kWrong;
    } else {
      const bool right = store.TakeText("note") == "one" &&
                         !branch->TakeText("a") && branch->TakeText("b") == "3";
      Tell(right ? "right" : "wrong");
      return 0;
    }
    store.Say(KeeperWord::kReady, "");
    ::raise(SIGKILL);
    return kWrong;
  });
  EXPECT_EQ(run.said, "ready right");
}

TEST_F(KeeperTest, ADescriptorIsTheSameFileInTheNextLife) {
  const KeeperRun run = Run([](FdStore store) {
    UniqueFd pipe = store.Take("pipe");
    if (pipe) {
      char byte = 0;
      return ::read(pipe.get(), &byte, 1) == 1 && byte == 'x' ? 0 : kWrong;
    }
    std::array<int, 2> ends;
    if (::pipe(ends.data()) != 0 || ::write(ends[1], "x", 1) != 1 ||
        !store.Keep("pipe", ends[0])) {
      return kWrong;
    }
    store.Say(KeeperWord::kReady, "");
    ::abort();
  });
  EXPECT_EQ(run.exit_code, 0);
}

TEST_F(KeeperTest, AFirstWorkerThatCannotBeginIsTheEnd) {
  const KeeperRun run = Run([](FdStore store) {
    store.Say(KeeperWord::kFailed, "no disk", 3);
    return 3;
  });
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_EQ(run.said, "failed 3 no disk");
}

TEST_F(KeeperTest, AFirstWorkerThatIsKilledBeforeItIsReadyIsTheEnd) {
  const KeeperRun run = Run([](FdStore) { return ::raise(SIGKILL); });
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_NE(run.said.find("signal 9"), std::string::npos) << run.said;
}

TEST_F(KeeperTest, ALaterWorkerThatCannotBeginIsTriedAgain) {
  const KeeperRun run = Run([](FdStore store) {
    if (store.restarts() == 0) {
      store.Say(KeeperWord::kReady, "");
      ::raise(SIGKILL);
    }
    if (store.restarts() == 3) return 0;
    store.Say(KeeperWord::kFailed, "not now", 1);
    return 1;
  });
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.said, "ready ");
}

// Blocks until SIGTERM comes, which the keeper has blocked.
int WaitForTerm() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  int number = 0;
  return ::sigwait(&set, &number);
}

TEST_F(KeeperTest, AWorkerThatIsToldToEndEndsTheKeeper) {
  const pid_t pid = Begin([](FdStore store) {
    store.Say(KeeperWord::kReady, "here");
    WaitForTerm();
    return 4;
  });
  EXPECT_EQ(Hear(), "ready here");
  ::kill(pid, SIGTERM);
  EXPECT_EQ(End(pid).exit_code, 4);
}

TEST_F(KeeperTest, AWorkerThatDiesWhileItEndsIsSucceededByOneThatEnds) {
  const pid_t pid = Begin([](FdStore store) {
    store.Say(KeeperWord::kReady, "here");
    WaitForTerm();
    if (store.restarts() == 0) ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(Hear(), "ready here");
  ::kill(pid, SIGTERM);
  EXPECT_EQ(End(pid).exit_code, 0);
}

TEST_F(KeeperTest, AWorkerThatIsToEndWithItsKeeperIsTold) {
  end_with_keeper_ = true;
  const pid_t pid = Begin([this](FdStore store) {
    store.Say(KeeperWord::kReady, "here");
    WaitForTerm();
    Tell("told");
    return 0;
  });
  EXPECT_EQ(Hear(), "ready here");
  ::kill(pid, SIGKILL);
  EXPECT_EQ(Hear(), "told");
  EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
}

TEST(FdStoreTest, WithoutAKeeperNothingIsKeptAndNothingFails) {
  FdStore store;
  EXPECT_FALSE(store.has_keeper());
  EXPECT_TRUE(store.KeepText("note", "text"));
  EXPECT_FALSE(store.TakeText("note"));
  EXPECT_FALSE(store.Take("note"));
  store.Say(KeeperWord::kReady, "nobody hears");
}

}  // namespace
}  // namespace bootstream
