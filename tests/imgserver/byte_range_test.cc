#include "imgserver/byte_range.h"

#include <gtest/gtest.h>

#include <string>

namespace bootstream {
namespace {

constexpr uint64_t kMax = ~uint64_t{0};

void ExpectPart(std::string_view header, uint64_t file_size, uint64_t first,
                uint64_t size) {
  const RangeAnswer answer = ResolveRange(header, file_size);
  EXPECT_EQ(answer.kind, RangeKind::kPart) << header;
  EXPECT_EQ(answer.first, first) << header;
  EXPECT_EQ(answer.size, size) << header;
}

void ExpectKind(std::string_view header, uint64_t file_size, RangeKind kind) {
  const RangeAnswer answer = ResolveRange(header, file_size);
  EXPECT_EQ(answer.kind, kind) << header << " of " << file_size;
  EXPECT_EQ(answer.size, 0U) << header;
}

TEST(ByteRangeTest, PartsAreExactAndCutToTheFile) {
  ExpectPart("bytes=0-0", 100, 0, 1);
  ExpectPart("bytes=0-99", 100, 0, 100);
  ExpectPart("bytes=99-99", 100, 99, 1);
  ExpectPart("bytes=99-100", 100, 99, 1);
  ExpectPart("bytes=10-", 100, 10, 90);
  ExpectPart("bytes=-1", 100, 99, 1);
  ExpectPart("bytes=-100", 100, 0, 100);
  ExpectPart("bytes=-101", 100, 0, 100);
  ExpectPart("BYTES= 5-6\t", 100, 5, 2);
  ExpectPart("bytes=007-8", 100, 7, 2);
}

TEST(ByteRangeTest, RangeBehindTheEndIsUnsatisfiable) {
  ExpectKind("bytes=100-", 100, RangeKind::kUnsatisfiable);
  ExpectKind("bytes=100-200", 100, RangeKind::kUnsatisfiable);
  ExpectKind("bytes=-0", 100, RangeKind::kUnsatisfiable);
  ExpectKind("bytes=0-", 0, RangeKind::kUnsatisfiable);
}

TEST(ByteRangeTest, EmptyFileHasNoLastBytes) {
  ExpectKind("bytes=-5", 0, RangeKind::kWhole);
}

TEST(ByteRangeTest, NumbersBeyond64BitsDoNotWrap) {
  const std::string huge = "99999999999999999999999999";
  ExpectPart("bytes=1-" + huge, 100, 1, 99);
  ExpectPart("bytes=-" + huge, 100, 0, 100);
  ExpectPart("bytes=0-18446744073709551616", 100, 0, 100);
  ExpectPart("bytes=0-18446744073709551615", kMax, 0, kMax);
  ExpectKind("bytes=" + huge + "-", 100, RangeKind::kUnsatisfiable);
  ExpectKind("bytes=18446744073709551615-", kMax, RangeKind::kUnsatisfiable);
  ExpectPart("bytes=18446744073709551614-", kMax, kMax - 1, 1);
}

TEST(ByteRangeTest, WhatIsNoSingleRangeIsAnsweredWhole) {
  for (const char* header :
       {"", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=5-4",
        "bytes=1-2,5-6", "bytes=1-2, 5-6", "bytes=1-2-3", "bytes=--1",
        "bytes=+1-2", "bytes=1 -2", "bytes=0x1-2", "chunks=1-2", "bytes:1-2",
        "bytes=1-\xb2", "octets=0-", "b"}) {
    ExpectKind(header, 100, RangeKind::kWhole);
  }
}

// Against every range of a small file, spelled in each way.
TEST(ByteRangeTest, EveryRangeOfASmallFile) {
  constexpr uint64_t kSize = 7;
  for (uint64_t first = 0; first < kSize; ++first) {
    for (uint64_t last = first; last < kSize + 3; ++last) {
      ExpectPart("bytes=" + std::to_string(first) + "-" + std::to_string(last),
                 kSize, first, std::min(last, kSize - 1) - first + 1);
    }
    ExpectPart("bytes=" + std::to_string(first) + "-", kSize, first,
               kSize - first);
    ExpectPart("bytes=-" + std::to_string(first + 1), kSize, kSize - first - 1,
               first + 1);
  }
}

}  // namespace
}  // namespace bootstream
