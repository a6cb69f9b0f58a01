#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <string>

// In every test program: when a signal ends it (an assert, a rig that cannot go
// on), it says which test that was, in the words for one that has failed.

namespace bootstream {
namespace {

// Written between tests; read by the handler, which may do nothing but write.
std::array<char, 256> words{};
pid_t tester = 0;  // not a child that a test ends on purpose

extern "C" void SayWhichTest(int signal) {
  if (::getpid() == tester) {
    (void)!::write(STDERR_FILENO, words.data(), std::strlen(words.data()));
  }
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

class RememberTest final : public testing::EmptyTestEventListener {
 public:
  RememberTest() {
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
      struct sigaction now {};
      ::sigaction(signal, nullptr, &now);
      // A sanitizer's own handler says more.
      if (now.sa_handler == SIG_DFL) ::signal(signal, SayWhichTest);
    }
  }
  void OnTestStart(const testing::TestInfo& test) override {
    Set("[  FAILED  ] " + std::string(test.test_suite_name()) + "." +
        test.name() + " (ended by a signal)\n");
  }
  void OnTestEnd(const testing::TestInfo&) override { Set(""); }

 private:
  static void Set(const std::string& text) {
    tester = ::getpid();
    words.fill('\0');
    text.copy(words.data(), words.size() - 1);
  }
};

const bool kListening = [] {
  // Google Test takes it over.
  testing::UnitTest::GetInstance()->listeners().Append(new RememberTest);
  return true;
}();

}  // namespace
}  // namespace bootstream
