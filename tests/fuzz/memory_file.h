#ifndef TESTS_FUZZ_MEMORY_FILE_H_
#define TESTS_FUZZ_MEMORY_FILE_H_

#include <span>
#include <string>

#include "blockmap/base/unique_fd.h"

namespace bootstream {

// A file in memory that has a path (memfd_create(2)), for what opens files by
// name.  Aborts where it cannot be had.
class MemoryFile {
 public:
  MemoryFile();
  // Its whole content from now on.
  void Fill(std::span<const std::byte> content);
  // Write `data` over a part of it.
  void Patch(uint64_t offset, std::span<const std::byte> data);
  const std::string& path() const { return path_; }

 private:
  UniqueFd fd_;
  std::string path_;
};

}  // namespace bootstream

#endif  // TESTS_FUZZ_MEMORY_FILE_H_
