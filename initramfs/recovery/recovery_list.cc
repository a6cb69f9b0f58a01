#include "initramfs/recovery/recovery_list.h"

#include <filesystem>
#include <optional>
#include <sstream>
#include <system_error>

namespace bootstream {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNet = "net=";

void AddTarget(const fs::path& link, std::set<std::string>& names) {
  std::error_code error;
  const fs::path target = fs::read_symlink(link, error);
  if (!error) names.insert(target.filename().string());
}

std::optional<std::string> PathOfLine(const std::string& line,
                                      const std::set<std::string>& drivers) {
  if (line.starts_with('/')) return line;
  const size_t space = line.find(' ');
  if (!line.starts_with(kNet) || space == std::string::npos) {
    return std::nullopt;
  }
  const std::string driver = line.substr(kNet.size(), space - kNet.size());
  std::string path = line.substr(space + 1);
  if (!path.starts_with('/') || !drivers.contains(driver)) return std::nullopt;
  return path;
}

}  // namespace

std::set<std::string> NetworkDrivers(const std::string& sysfs) {
  std::set<std::string> names;
  std::error_code error;
  fs::directory_iterator device(sysfs + "/class/net", error);
  while (!error && device != fs::directory_iterator()) {
    const fs::path driver = device->path() / "device/driver";
    AddTarget(driver, names);
    AddTarget(driver / "module", names);
    device.increment(error);
  }
  return names;
}

std::vector<std::string> PathsOfList(std::string_view text,
                                     const std::set<std::string>& drivers) {
  std::vector<std::string> paths;
  std::set<std::string> known;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    auto path = PathOfLine(line, drivers);
    if (path && known.insert(*path).second) paths.push_back(std::move(*path));
  }
  return paths;
}

}  // namespace bootstream
