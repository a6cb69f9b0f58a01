#ifndef TESTS_BLOCKMAP_DISK_DISK_FIXTURE_H_
#define TESTS_BLOCKMAP_DISK_DISK_FIXTURE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace bootstream {

// A temporary directory on tmpfs, gone after the test, and the system's own
// tools to make disks in it.
class DiskTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/dev/shm/bootstream-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const {
    return directory_ + "/" + name;
  }
  // A sparse file.
  std::string MakeFile(const std::string& name, uint64_t size) {
    std::ofstream(Path(name)).flush();
    std::filesystem::resize_file(Path(name), size);
    return Path(name);
  }
  // Run a shell command in the directory; it must succeed.
  void Run(const std::string& command) {
    const std::string line = "cd " + directory_ +
                             " && PATH=$PATH:/usr/sbin:/sbin && (" + command +
                             ") >log 2>&1";
    if (std::system(line.c_str()) != 0) {
      std::ifstream log(Path("log"));
      ADD_FAILURE() << command << "\n" << log.rdbuf();
    }
  }
  std::vector<char> Load(const std::string& path) {
    std::vector<char> bytes(std::filesystem::file_size(path));
    std::ifstream in(path, std::ios::binary);
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    EXPECT_TRUE(in.good()) << path;
    return bytes;
  }
  // Change one byte.
  void Flip(const std::string& path, uint64_t offset) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(file.get() ^ 0x40);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(byte);
  }

 private:
  std::string directory_;
};

}  // namespace bootstream

#endif  // TESTS_BLOCKMAP_DISK_DISK_FIXTURE_H_
