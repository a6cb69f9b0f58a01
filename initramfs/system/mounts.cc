#include "initramfs/system/mounts.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <sstream>

#include "blockmap/base/file_util.h"

namespace bootstream {
namespace {

constexpr uint64_t kMountinfoBytesMax = uint64_t{16} << 20;

// Spaces and the like are written as \040.
std::string Unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digits = text.substr(i + 1 < text.size() ? i + 1 : i, 3);
    const bool octal =
        text[i] == '\\' && digits.size() == 3 &&
        digits.find_first_not_of("01234567") == std::string_view::npos;
    if (!octal) {
      plain += text[i];
      continue;
    }
    plain += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 +
                               (digits[2] - '0'));
    i += 3;
  }
  return plain;
}

bool IsBelow(std::string_view path, std::string_view directory) {
  if (directory == "/") return path.starts_with('/');
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

// `path`, which is below `from`, moved to `to`.
std::string Moved(std::string_view path, std::string_view from,
                  std::string_view to) {
  if (from == "/") from = "";
  if (to == "/") to = "";
  std::string moved(to);
  moved += path.substr(from.size());
  return moved.empty() ? "/" : moved;
}

}  // namespace

std::vector<MountPoint> ParseMounts(std::string_view mountinfo) {
  std::vector<MountPoint> mounts;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, root, where, word, type, source;
    unsigned device_major = 0;
    unsigned device_minor = 0;
    char colon = 0;
    words >> id >> parent >> device_major >> colon >> device_minor >> root >>
        where;
    while (words >> word && word != "-") {
    }
    if (!(words >> type >> source) || colon != ':') continue;
    mounts.push_back({makedev(device_major, device_minor), Unescape(where),
                      Unescape(root), type, Unescape(source)});
  }
  return mounts;
}

Result<std::vector<MountPoint>> ReadMounts() {
  const auto file = ReadWholeFile("/proc/self/mountinfo", kMountinfoBytesMax);
  if (!file) return file.error();
  std::vector<MountPoint> mounts = ParseMounts(
      {reinterpret_cast<const char*>(file->data()), file->size()});
  for (MountPoint& mount : mounts) {
    struct stat source {};
    if (major(mount.device) == 0 &&
        ::stat(mount.source.c_str(), &source) == 0 && S_ISBLK(source.st_mode)) {
      mount.device = source.st_rdev;
    }
  }
  return mounts;
}

const MountPoint* MountOf(const std::vector<MountPoint>& mounts,
                          std::string_view path) {
  const MountPoint* best = nullptr;
  for (const MountPoint& mount : mounts) {
    if (!IsBelow(path, mount.where)) continue;
    // Of two in one place the later one is seen.
    if (best == nullptr || mount.where.size() >= best->where.size()) {
      best = &mount;
    }
  }
  return best;
}

std::string PathInside(const MountPoint& mount, std::string_view path) {
  return Moved(path, mount.where, mount.root);
}

std::string PathOutside(const MountPoint& mount, std::string_view inside) {
  if (!IsBelow(inside, mount.root)) return "";
  return Moved(inside, mount.root, mount.where);
}

}  // namespace bootstream
