#include "initramfs/grow/mounts.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <iterator>
#include <sstream>

namespace bootstream {
namespace {

// "\040" is a space.
std::string Unescape(const std::string& word) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string text;
  for (size_t i = 0; i < word.size(); ++i) {
    if (word[i] == '\\' && i + 3 < word.size() && octal(word[i + 1]) &&
        octal(word[i + 2]) && octal(word[i + 3])) {
      text += static_cast<char>((word[i + 1] - '0') * 64 +
                                (word[i + 2] - '0') * 8 + word[i + 3] - '0');
      i += 3;
    } else {
      text += word[i];
    }
  }
  return text;
}

bool ParseLine(const std::string& line, Mount& mount) {
  std::istringstream words(line);
  std::string id, parent, root, options, word;
  unsigned device_major = 0;
  unsigned device_minor = 0;
  char colon = 0;
  words >> id >> parent >> device_major >> colon >> device_minor >> root >>
      mount.point >> options;
  while (words >> word && word != "-") {
  }
  words >> mount.type >> mount.source;
  mount.device = makedev(device_major, device_minor);
  mount.point = Unescape(mount.point);
  mount.source = Unescape(mount.source);
  return static_cast<bool>(words) && colon == ':';
}

}  // namespace

std::vector<Mount> ParseMountInfo(std::string_view text) {
  std::vector<Mount> mounts;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    Mount mount;
    if (ParseLine(line, mount)) mounts.push_back(std::move(mount));
  }
  return mounts;
}

Result<std::vector<Mount>> ReadMounts() {
  std::ifstream file("/proc/self/mountinfo");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (text.empty()) {
    return Error{ErrorCode::kIo, "/proc/self/mountinfo cannot be read"};
  }
  std::vector<Mount> mounts = ParseMountInfo(text);
  for (Mount& mount : mounts) {
    struct stat source {};
    if (major(mount.device) == 0 &&
        ::stat(mount.source.c_str(), &source) == 0 && S_ISBLK(source.st_mode)) {
      mount.device = source.st_rdev;
    }
  }
  return mounts;
}

}  // namespace bootstream
