#include "blockmap/base/progress.h"

#include <gtest/gtest.h>

#include <array>

namespace bootstream {
namespace {

std::string Written(std::FILE* file) {
  std::rewind(file);
  std::string out(4096, '\0');
  out.resize(std::fread(out.data(), 1, out.size(), file));
  return out;
}

TEST(ProgressTest, BytesReadLikeBytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(uint64_t{300} << 20), "300 MiB");
}

TEST(ProgressTest, LogHasWholeLinesOnly) {
  std::FILE* file = std::tmpfile();
  {
    Progress progress(file, Progress::Style::kLog);
    progress.Start("copy", 100, Progress::Unit::kItems);
    for (int i = 0; i < 100; ++i) progress.Add(1);
    progress.Start("check", 0);
    progress.Set(2048);
  }
  const std::string text = Written(file);
  std::fclose(file);
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_TRUE(text.starts_with("copy  100 %  100 of 100")) << text;
  EXPECT_NE(text.find("\ncheck  2.0 KiB"), std::string::npos) << text;
  EXPECT_EQ(text.back(), '\n');
}

TEST(ProgressTest, TerminalLineIsDrawnOverAndEnded) {
  std::FILE* file = std::tmpfile();
  {
    Progress progress(file, Progress::Style::kTerminal);
    progress.Start("copy", 4096);
    progress.Set(4096);
  }
  const std::string text = Written(file);
  std::fclose(file);
  EXPECT_TRUE(text.starts_with("\rcopy  [>")) << text;
  EXPECT_NE(text.find("100 %"), std::string::npos) << text;
  EXPECT_EQ(text.back(), '\n');
}

}  // namespace
}  // namespace bootstream
