#include "tests/fuzz/memory_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

namespace bootstream {

MemoryFile::MemoryFile() : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
  Require(static_cast<bool>(fd_), "a file in memory");
  path_ = "/proc/self/fd/" + std::to_string(fd_.get());
}

void MemoryFile::Fill(std::span<const std::byte> content) {
  const auto size = static_cast<off_t>(content.size());
  Require(::ftruncate(fd_.get(), 0) == 0 && ::ftruncate(fd_.get(), size) == 0,
          "a file in memory can be as long as one likes");
  Patch(0, content);
}

void MemoryFile::Patch(uint64_t offset, std::span<const std::byte> data) {
  const ssize_t n =
      ::pwrite(fd_.get(), data.data(), data.size(), static_cast<off_t>(offset));
  Require(n == static_cast<ssize_t>(data.size()), "writes to memory");
}

}  // namespace bootstream
