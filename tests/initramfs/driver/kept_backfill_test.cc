#include "initramfs/driver/kept_backfill.h"

#include <gtest/gtest.h>

namespace bootstream {
namespace {

Backfill::Options Defaults() {
  Backfill::Options options;
  options.start_paused = true;
  options.bytes_per_second = 7;
  return options;
}

TEST(KeptBackfillTest, WhatAPersonHasSaidIsGoneOnWith) {
  const auto options =
      WithKeptBackfill(Defaults(), R"({"paused": false, "limit": 1000})");
  EXPECT_FALSE(options.start_paused);
  EXPECT_EQ(options.bytes_per_second, 1000u);
}

TEST(KeptBackfillTest, NonsenseOfAnotherVersionSaysNothing) {
  for (const char* text :
       {"", "[]", "{", R"({"paused": 1, "limit": "fast"})",
        R"({"paused": null, "limit": -1})", R"({"limit": 1e99})", "\xff"}) {
    const auto options = WithKeptBackfill(Defaults(), text);
    EXPECT_TRUE(options.start_paused) << text;
    EXPECT_EQ(options.bytes_per_second, 7u) << text;
  }
}

}  // namespace
}  // namespace bootstream
