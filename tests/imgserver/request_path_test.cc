#include "imgserver/request_path.h"

#include <gtest/gtest.h>

#include <string>

namespace bootstream {
namespace {

const std::string kDigest = "ab" + std::string(62, '0');

TEST(RequestPathTest, PackIsImmutableAndKnownAsOne) {
  const auto path = DecodeRequestPath("/packs/ab/" + kDigest + "?x=/../y");
  ASSERT_TRUE(path.has_value());
  EXPECT_EQ(path->folder, "packs");
  EXPECT_EQ(path->rest, "ab/" + kDigest);
  EXPECT_TRUE(path->is_pack);
  EXPECT_TRUE(path->is_immutable);
}

TEST(RequestPathTest, OnlyADigestInItsFolderIsAPack) {
  for (const std::string& rest :
       {"cd/" + kDigest, "ab/" + kDigest + "0", "ab/" + kDigest.substr(1),
        "ab/AB" + kDigest.substr(2), kDigest, "ab/x/" + kDigest,
        "a/" + kDigest}) {
    const auto path = DecodeRequestPath("/packs/" + rest);
    ASSERT_TRUE(path.has_value()) << rest;
    EXPECT_FALSE(path->is_pack) << rest;
    EXPECT_FALSE(path->is_immutable) << rest;
  }
}

TEST(RequestPathTest, VersionsAreImmutableTheRestIsNot) {
  EXPECT_TRUE(DecodeRequestPath("/images/deb/1.0/manifest")->is_immutable);
  EXPECT_FALSE(DecodeRequestPath("/images/deb/latest")->is_immutable);
  EXPECT_FALSE(DecodeRequestPath("/boot/a/b/c")->is_immutable);
}

TEST(RequestPathTest, EscapesAreDecodedOnce) {
  EXPECT_EQ(DecodeRequestPath("/boot/a%20b%2541%c3%a9")->rest,
            "a b%41\xc3\xa9");
  EXPECT_EQ(DecodeRequestPath("http://host:80/boot/x")->rest, "x");
}

TEST(RequestPathTest, NothingLeadsOutOfThePublicFolders) {
  for (const char* target : {"/",
                             "/boot",
                             "/boot/",
                             "/packs/..",
                             "/packs/../etc/passwd",
                             "/packs/%2e%2e/x",
                             "/packs/.%2e/x",
                             "/packs/%2E./x",
                             "/boot/.hidden",
                             "/boot/a/.hidden/b",
                             "/boot//x",
                             "//boot/x",
                             "/boot/x/",
                             "/boot/a%2fb",
                             "/boot/a%2Fb",
                             "/boot/%00",
                             "/boot/x%0a",
                             "/boot/%7f",
                             "/keys/secret",
                             "/Boot/x",
                             "/%2e/boot/x",
                             "/./boot/x",
                             "/boot/./x"}) {
    const auto path = DecodeRequestPath(target);
    ASSERT_FALSE(path.has_value()) << target;
    EXPECT_EQ(path.error().status, 404) << target;
  }
}

TEST(RequestPathTest, WhatIsNoPathIsABadRequest) {
  for (const char* target :
       {"*", "boot/x", "http://host", "ftp://host/boot/x", "/boot/%",
        "/boot/%4", "/boot/%zz", "/boot/%-1", ""}) {
    const auto path = DecodeRequestPath(target);
    ASSERT_FALSE(path.has_value()) << target;
    EXPECT_EQ(path.error().status, 400) << target;
  }
}

}  // namespace
}  // namespace bootstream
