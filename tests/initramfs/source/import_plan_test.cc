#include "initramfs/source/import_plan.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace bootstream {
namespace {

namespace fs = std::filesystem;

// Two systems as folders.
class ImportPlanTest : public testing::Test {
 protected:
  ImportPlanTest() {
    char name[] = "/tmp/import-plan-XXXXXX";
    top_ = mkdtemp(name);
    request_.roots = {Old()};
    request_.new_root = top_ + "/new";
    Write("new/etc/passwd",
          "root:x:0:0:root:/root:/bin/sh\n"
          "alice:x:2001:2001::/home/alice:/bin/sh\n"
          "carol:x:2003:100::/srv/carol:/bin/sh\n"
          "other:x:1500:1500::/home/other:/bin/sh\n");
    Write("new/etc/group",
          "root:x:0:\nalice:x:2001:\nteam:x:3100:\nusers:x:100:\n");
  }
  ~ImportPlanTest() override { fs::remove_all(top_); }

  std::string Old() const { return top_ + "/old"; }
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(top_ + "/" + path).parent_path());
    std::ofstream(top_ + "/" + path) << text;
  }
  void MakeLinux() {
    Write("old/etc/passwd",
          "root:x:0:0:root:/root:/bin/sh\nbroken line\n"
          "alice:x:1000:1000::/home/alice:/bin/sh\n"
          "bob:x:1500:1500::/home/bob:/bin/sh\n"
          "carol:x:1003:1003::/home/carol:/bin/sh\n"
          "dave:x:1004:100::/home/dave:/bin/sh\n");
    Write("old/etc/group",
          "root:x:0:\nalice:x:1000:\nbob:x:1500:\ncarol:x:1003:\n"
          "team:x:3000:alice\nusers:x:100:\n");
    Write("old/home/alice/Documents/letter", "dear");
    Write("old/home/bob/note", "b");
    Write("old/opt/tool/run", "x");
  }
  void MakeWindows() {
    for (const char* name : {"Carol", "Public", "Default", "Zoe"}) {
      Write(std::string("old/Users/") + name + "/Desktop/file", name);
    }
    Write("old/Users/desktop.ini", "");
    fs::create_directory_symlink("Default", Old() + "/Users/All Users");
  }

  std::vector<ImportFolder> Plan() {
    auto plan = PlanImport(request_);
    EXPECT_TRUE(plan) << plan.error().message;
    return plan ? *plan : std::vector<ImportFolder>();
  }
  ErrorCode Refusal() {
    const auto plan = PlanImport(request_);
    EXPECT_FALSE(plan);
    return plan ? ErrorCode::kIo : plan.error().code;
  }
  static std::string Pairs(const std::vector<IdMap>& ids) {
    std::string text;
    for (const IdMap id : ids) {
      text += std::to_string(id.from) + ":" + std::to_string(id.to) + " ";
    }
    return text;
  }

  std::string top_;
  ImportRequest request_;
};

TEST_F(ImportPlanTest, EverybodysHomeGoesHome) {
  MakeLinux();
  const auto plan = Plan();
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].from, Old() + "/home/alice");
  EXPECT_EQ(plan[0].to, "/home/alice");
  EXPECT_TRUE(plan[0].notes.empty());
  EXPECT_EQ(plan[1].to, "/home/bob");
  // Nobody of that name is here, and the number is another's.
  ASSERT_EQ(plan[1].notes.size(), 1u);
  EXPECT_NE(plan[1].notes[0].find("1500, who is 'other' here"),
            std::string::npos)
      << plan[1].notes[0];
}

TEST_F(ImportPlanTest, OwnersAreMappedByName) {
  MakeLinux();
  const auto plan = Plan();
  // carol's own group is none here: her first group is.
  EXPECT_EQ(Pairs(plan[0].users), "1000:2001 1003:2003 ");
  EXPECT_EQ(Pairs(plan[0].groups), "1000:2001 1003:100 3000:3100 ");
}

TEST_F(ImportPlanTest, WhoIsWhoCanBeSaid) {
  MakeLinux();
  request_.map_owner = {"bob:alice", "alice:0", "1777:carol"};
  const auto plan = Plan();
  EXPECT_EQ(Pairs(plan[0].users), "1500:2001 1000:0 1777:2003 1003:2003 ");
  EXPECT_EQ(plan[1].to, "/home/alice");
  EXPECT_TRUE(plan[1].notes.empty());
  for (const char* wrong :
       {"bob", ":alice", "bob:", "nobody-there:alice", "bob:nobody-here"}) {
    request_.map_owner = {wrong};
    EXPECT_EQ(Refusal(), ErrorCode::kInvalid) << wrong;
  }
}

TEST_F(ImportPlanTest, AGroupThatOthersHaveIsNotAUsersOwn) {
  MakeLinux();
  request_.map_owner = {"dave:alice"};
  const auto plan = Plan();
  for (const IdMap id : plan[0].groups) EXPECT_NE(id.from, 100u);
}

TEST_F(ImportPlanTest, ProfilesOfWindowsGoToUsersInLowerCase) {
  MakeWindows();
  const auto plan = Plan();
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].from, Old() + "/Users/Carol");
  EXPECT_EQ(plan[0].to, "/srv/carol");
  EXPECT_TRUE(plan[0].has_owner);
  EXPECT_EQ(plan[0].owner, 2003u);
  EXPECT_EQ(plan[0].group, 100u);
  EXPECT_EQ(plan[1].to, "/home/zoe");
  EXPECT_EQ(plan[1].owner, 0u);
  EXPECT_EQ(plan[1].notes.size(), 1u);
  request_.map_owner = {"Zoe:alice"};
  EXPECT_EQ(Plan()[1].owner, 2001u);
}

TEST_F(ImportPlanTest, HomesOnAFileSystemOfTheirOwnAreFound) {
  MakeLinux();
  fs::remove_all(Old() + "/home");
  Write("homes/bob/note", "b");
  Write("homes/lost+found/x", "");
  Write("data/music/song", "");
  request_.roots = {top_ + "/data", Old(), top_ + "/homes"};
  const auto plan = Plan();
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].from, top_ + "/homes/bob");
  EXPECT_EQ(plan[0].to, "/home/bob");
}

TEST_F(ImportPlanTest, ADirectoryOfMountsStandsForThem) {
  MakeLinux();
  fs::create_directories(top_ + "/mounts");
  fs::rename(Old(), top_ + "/mounts/2");
  request_.roots = {top_ + "/mounts"};
  EXPECT_EQ(Plan().size(), 2u);
}

TEST_F(ImportPlanTest, NamedFoldersGoWhereTheyBelongOrWhereIsSaid) {
  MakeLinux();
  request_.folders = {"/home/alice/Documents"};
  auto plan = Plan();
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].from, Old() + "/home/alice");
  EXPECT_EQ(plan[0].part, "Documents");
  EXPECT_EQ(plan[0].to, "/home/alice");
  request_.folders = {"opt/tool"};
  EXPECT_EQ(Refusal(), ErrorCode::kInvalid);
  request_.to = "/srv/old";
  plan = Plan();
  EXPECT_EQ(plan[0].from, Old() + "/opt");
  EXPECT_EQ(plan[0].part, "tool");
  EXPECT_EQ(plan[0].to, "/srv/old");
  request_.folders = {"/home/alice"};
  EXPECT_EQ(Plan()[0].to, "/srv/old/alice");
}

TEST_F(ImportPlanTest, WhatIsNotThereOrLeadsOutIsRefused) {
  MakeLinux();
  request_.to = "/srv/old";
  for (const char* folder : {"/home/alice/Music", "/home/nobody", "/nothing"}) {
    request_.folders = {folder};
    EXPECT_EQ(Refusal(), ErrorCode::kNotFound) << folder;
  }
  for (const char* folder : {"/home/../etc", "/", ""}) {
    request_.folders = {folder};
    EXPECT_EQ(Refusal(), ErrorCode::kInvalid) << folder;
  }
}

// A link of the old system leads to its own files, not to this system's.
TEST_F(ImportPlanTest, LinksStayInTheOldSystem) {
  MakeLinux();
  fs::create_symlink("/etc", Old() + "/home/alice/config");
  fs::create_symlink("/opt", Old() + "/programs");
  request_.to = "/srv/old";
  request_.folders = {"/home/alice/config/passwd"};
  EXPECT_EQ(Refusal(), ErrorCode::kNotFound);
  request_.folders = {"/programs/tool"};
  EXPECT_EQ(Plan()[0].from, Old() + "/opt");
  fs::rename(Old() + "/home", Old() + "/people");
  fs::create_symlink("/people", Old() + "/home");
  request_.folders = {};
  EXPECT_EQ(Plan()[0].from, Old() + "/people/alice");
}

TEST_F(ImportPlanTest, NoOldSystemIsSaid) {
  fs::create_directories(Old());
  EXPECT_EQ(Refusal(), ErrorCode::kNotFound);
}

TEST(RsyncCommandTest, SaysWhatIsMeant) {
  ImportFolder folder;
  folder.from = "/old/home/a:b";
  folder.to = "/home/alice";
  folder.users = {{1, 2}, {3, 4}};
  folder.groups = {{5, 6}};
  auto command = RsyncCommand(folder, false, true);
  const auto has = [&](const std::string& word) {
    return std::ranges::count(command, word) == 1;
  };
  EXPECT_EQ(command.front(), "rsync");
  EXPECT_TRUE(has("-aHAX") && has("--update") && has("--info=progress2"));
  EXPECT_TRUE(has("--usermap=1:2,3:4") && has("--groupmap=5:6"));
  EXPECT_TRUE(has("/old/home/a:b/") && command.back() == "/home/alice/");
  EXPECT_FALSE(has("--dry-run") || has("--relative"));
  folder.has_owner = true;
  folder.owner = 7;
  folder.group = 8;
  folder.part = "Desktop";
  command = RsyncCommand(folder, true, true);
  EXPECT_TRUE(has("--chown=7:8") && has("--dry-run") && has("--relative"));
  EXPECT_TRUE(has("/old/home/a:b/./Desktop"));
  EXPECT_FALSE(has("--usermap=1:2,3:4") || has("--info=progress2"));
}

}  // namespace
}  // namespace bootstream
