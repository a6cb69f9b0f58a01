#include "initramfs/closure/read_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

bool ReadFile(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<char> part(size_t{1} << 20);
  ssize_t count = file ? 1 : -1;
  while (count > 0) count = ::read(file.get(), part.data(), part.size());
  return count == 0;
}

bool ReadAll(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return ReadFile(path);
  for (fs::recursive_directory_iterator entry(path, error), end;
       !error && entry != end; entry.increment(error)) {
    std::error_code gone;
    if (entry->is_regular_file(gone) && !ReadFile(entry->path())) return false;
  }
  return !error;
}

}  // namespace

Status ReadFiles(const std::vector<std::string>& paths, Deadline deadline) {
  const auto code = RunInChild(
      [&] {
        for (const std::string& path : paths) {
          if (!ReadAll(path)) return 1;
        }
        return 0;
      },
      deadline);
  if (!code || *code != 0) {
    return Error{ErrorCode::kUnavailable,
                 code ? "not all of " + paths.front() + " can be read"
                      : "not all of " + paths.front() + " has come in time"};
  }
  return OkStatus();
}

}  // namespace bootstream
