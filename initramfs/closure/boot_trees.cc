#include "initramfs/closure/boot_trees.h"

#include <charconv>
#include <filesystem>
#include <optional>

#include "blockmap/base/file_util.h"
#include "initramfs/closure/grub_config.h"
#include "initramfs/system/mounts.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kConfigBytesMax = uint64_t{16} << 20;
constexpr std::string_view kMapperName = "bootstream";

std::optional<int> NumberBehind(std::string_view text,
                                std::string_view prefix) {
  if (!text.starts_with(prefix)) return std::nullopt;
  text.remove_prefix(prefix.size());
  int number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1) {
    return std::nullopt;
  }
  return number;
}

// The streamed partitions are device-mapper's bootstream1, bootstream2, ...
std::optional<int> PartitionOf(const MountPoint& mount,
                               const BootTreeOptions& options) {
  const auto told = options.partitions.find(mount.where);
  if (told != options.partitions.end()) return told->second;
  std::error_code ignored;
  const fs::path device = fs::canonical(mount.source, ignored);
  const auto file = ReadWholeFile(
      "/sys/class/block/" + device.filename().string() + "/dm/name", 4096);
  if (!file) return std::nullopt;
  std::string name(reinterpret_cast<const char*>(file->data()), file->size());
  while (!name.empty() && name.back() == '\n') name.pop_back();
  return NumberBehind(name, kMapperName);
}

class TreeFinder {
 public:
  TreeFinder(const BootTreeOptions& options, std::vector<MountPoint> mounts)
      : options_(options),
        mounts_(std::move(mounts)),
        boot_((fs::path(options.root) / "boot").string()) {}

  Result<std::vector<BootTree>> Find() {
    const std::string config = boot_ + "/grub/grub.cfg";
    std::error_code ignored;
    if (!fs::exists(config, ignored)) return std::vector<BootTree>();
    if (auto s = Add(boot_); !s) return s.error();
    const auto file = ReadWholeFile(config, kConfigBytesMax);
    if (!file) return file.error();
    const std::string_view text(reinterpret_cast<const char*>(file->data()),
                                file->size());
    for (const std::string& path : PathsNamedBy(text)) {
      if (auto s = AddNamed(path); !s) return s.error();
    }
    return std::move(trees_);
  }

 private:
  // What grub.cfg names may be a path of the root file system; those of /boot
  // are there already.
  Status AddNamed(const std::string& inside) {
    const MountPoint* mount = MountOf(mounts_, options_.root);
    if (mount == nullptr) return OkStatus();
    fs::path local(PathOutside(*mount, inside));
    std::error_code ignored;
    if (local.empty() || !fs::is_regular_file(local, ignored)) {
      return OkStatus();
    }
    local = fs::canonical(local, ignored);
    // A theme draws what lies beside it.
    if (local.filename() == "theme.txt") local = local.parent_path();
    if (local.string().starts_with(boot_ + "/")) return OkStatus();
    return Add(local.string());
  }

  Status Add(const std::string& local) {
    const MountPoint* mount = MountOf(mounts_, local);
    const auto partition =
        mount == nullptr ? std::nullopt : PartitionOf(*mount, options_);
    if (!partition) {
      return Error{ErrorCode::kUnsupported,
                   local + " lies on no partition of the streamed disk"};
    }
    trees_.push_back({*partition, PathInside(*mount, local), local, local,
                      mount->where});
    return OkStatus();
  }

  const BootTreeOptions& options_;
  const std::vector<MountPoint> mounts_;
  const std::string boot_;
  std::vector<BootTree> trees_;
};

}  // namespace

Result<std::vector<BootTree>> FindBootTrees(const BootTreeOptions& options) {
  auto mounts = ReadMounts();
  if (!mounts) return mounts.error();
  return TreeFinder(options, std::move(*mounts)).Find();
}

}  // namespace bootstream
