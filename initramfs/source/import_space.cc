#include "initramfs/source/import_space.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <charconv>
#include <filesystem>
#include <map>
#include <string>

#include "blockmap/base/progress.h"
#include "blockmap/base/types.h"
#include "initramfs/system/run_program.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

// rsync's word for Ctrl-C.
constexpr int kInterrupted = 20;

// The number behind `name` at the begin of a line.
std::optional<uint64_t> NumberAfter(std::string_view text,
                                    std::string_view name) {
  const size_t at = text.find(name);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = text.substr(at + name.size());
  uint64_t number = 0;
  const auto read =
      std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (read.ec != std::errc()) return std::nullopt;
  return number;
}

// The file system that `path` is or will be in.
struct Target {
  std::string directory;
  dev_t device = 0;
};

Result<Target> TargetOf(const std::string& path) {
  fs::path at = path;
  std::error_code ignored;
  while (at.has_relative_path() && !fs::exists(at, ignored)) {
    at = at.parent_path();
  }
  struct stat info {};
  if (::stat(at.c_str(), &info) != 0) return ErrnoError(errno, at.string());
  return Target{at.string(), info.st_dev};
}

// What rsync would copy; nullopt: it cannot tell, and copying will say why.
Result<std::optional<uint64_t>> Wanted(const ImportFolder& folder) {
  std::vector<std::string> command = RsyncCommand(folder, true, false);
  command.insert(command.begin() + 1, "--no-human-readable");
  const auto said = RunForOutput(command);
  if (!said) return said.error();
  if (said->exit_code == kInterrupted) {
    return Error{ErrorCode::kUnavailable, "interrupted; nothing was copied"};
  }
  return BytesInStats(said->output);
}

Error DoesNotFit(const std::string& where, const char* why, uint64_t wanted,
                 uint64_t free) {
  return Error{ErrorCode::kRefused,
               "what is to be imported does not fit: " + FormatBytes(wanted) +
                   " are to come to " + where + ", " + FormatBytes(free) +
                   " are free" + why + ", " + FormatBytes(wanted - free) +
                   " are missing; nothing was copied"};
}

Status CheckTarget(const Target& target, uint64_t wanted,
                   std::optional<uint64_t> room_bytes) {
  struct statvfs info {};
  if (::statvfs(target.directory.c_str(), &info) != 0) {
    return ErrnoError(errno, target.directory);
  }
  const uint64_t free = uint64_t{info.f_bavail} * info.f_frsize;
  if (wanted > free) return DoesNotFit(target.directory, "", wanted, free);
  const auto root = TargetOf("/");
  if (!root) return root.error();
  if (room_bytes && wanted > *room_bytes && target.device == root->device) {
    return DoesNotFit(target.directory,
                      " in the region while the old system is kept", wanted,
                      *room_bytes);
  }
  return OkStatus();
}

}  // namespace

std::optional<uint64_t> BytesInStats(std::string_view stats) {
  const auto bytes = NumberAfter(stats, "Total transferred file size: ");
  const auto files =
      NumberAfter(stats, "Number of regular files transferred: ");
  if (!bytes || !files) return std::nullopt;
  return *bytes + *files * kBlockBytes;
}

Status CheckImportSpace(const std::vector<ImportFolder>& folders,
                        std::optional<uint64_t> room_bytes) {
  std::map<dev_t, std::pair<Target, uint64_t>> wanted;
  for (const ImportFolder& folder : folders) {
    const auto target = TargetOf(folder.to);
    if (!target) return target.error();
    const auto bytes = Wanted(folder);
    if (!bytes) return bytes.error();
    const auto [found, added] =
        wanted.try_emplace(target->device, *target, uint64_t{0});
    found->second.second += bytes->value_or(0);
  }
  for (const auto& [device, one] : wanted) {
    if (auto s = CheckTarget(one.first, one.second, room_bytes); !s) return s;
  }
  return OkStatus();
}

}  // namespace bootstream
