#include "initramfs/system/run_program.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace bootstream {
namespace {

TEST(RunProgramTest, AChildsExitCodeIsThere) {
  EXPECT_EQ(RunInChild([] { return 4; }, std::nullopt).value(), 4);
  EXPECT_EQ(RunInChild([] { return ::raise(SIGKILL); }, std::nullopt).value(),
            128 + SIGKILL);
}

TEST(RunProgramTest, AChildThatDoesNotEndIsGivenUp) {
  const auto code = RunInChild(
      [] {
        for (;;) ::pause();
        return 0;
      },
      std::chrono::steady_clock::now() + std::chrono::milliseconds(50));
  ASSERT_FALSE(code);
  EXPECT_EQ(code.error().code, ErrorCode::kUnavailable);
}

TEST(RunProgramTest, WhatIsNotInstalledIsSaid) {
  const auto done = RunForOutput({"no-such-program-anywhere"});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace bootstream
