#include "initramfs/source/source_mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <system_error>
#include <thread>
#include <utility>

#include "blockmap/base/file_util.h"
#include "blockmap/base/unique_fd.h"
#include "initramfs/frontend/kernel_device.h"
#include "initramfs/frontend/loop_device.h"
#include "initramfs/system/run_program.h"
#include "initramfs/takeover/udev_state.h"

namespace bootstream {
namespace {

using nlohmann::json;

constexpr uint64_t kRecordBytesMax = uint64_t{1} << 20;
constexpr unsigned long kFlags = MS_RDONLY | MS_NOSUID | MS_NODEV;
constexpr auto kReleaseTimeout = std::chrono::seconds(10);

// "\040" is a space: proc(5), /proc/pid/mountinfo.
std::string Unescape(const std::string& word) {
  std::string text;
  for (size_t i = 0; i < word.size(); ++i) {
    if (word[i] == '\\' && i + 3 < word.size()) {
      text += static_cast<char>(std::stoi(word.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      text += word[i];
    }
  }
  return text;
}

// Whether `device` is what is mounted on `directory`, or below others there.
bool IsMounted(const std::string& device, const std::string& directory) {
  std::ifstream file("/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string skipped, point, word, type, source;
    words >> skipped >> skipped >> skipped >> skipped >> point;
    while (words >> word && word != "-") {
    }
    words >> type >> source;
    if (Unescape(point) == directory && Unescape(source) == device) return true;
  }
  return false;
}

Status HideLoop(const std::string& device, bool comes) {
  if (comes) return WriteUdevRole(device, "source", {});
  RemoveUdevRole(device);
  return OkStatus();
}

Result<std::string> AttachPartition(const std::string& disk,
                                    const SourceFilesystem& filesystem) {
  const UniqueFd fd(::open(disk.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open " + disk);
  LoopOptions options;
  options.read_only = true;
  options.offset_bytes = filesystem.offset_bytes;
  options.size_bytes = filesystem.size_bytes;
  options.notice = HideLoop;
  return AttachLoop(fd.get(), options);
}

// Two file systems of one fsid cannot be told apart by the kernel.
Status CheckOnlyOne(const SourceFilesystem& filesystem) {
  if (filesystem.type != "btrfs") return OkStatus();
  const std::string mounted = "/sys/fs/btrfs/" + filesystem.uuid;
  if (::access(mounted.c_str(), F_OK) != 0) return OkStatus();
  return Error{ErrorCode::kRefused,
               Describe(filesystem) +
                   ": a btrfs with the same id is mounted; the kernel would "
                   "take one for the other"};
}

Status RunHelper(const WayToMount& way, const std::string& device,
                 const std::string& directory) {
  const auto code =
      RunProgram({way.helper, "-o", "ro,nosuid,nodev", device, directory});
  if (!code) return Annotate(code.error(), "install " + way.helper);
  if (*code == 0) return OkStatus();
  return Error{ErrorCode::kIo, way.helper + " ended with " +
                                   std::to_string(*code) + " for " + device};
}

Status MountDevice(const WayToMount& way, const std::string& device,
                   const std::string& directory) {
  if (::mount(device.c_str(), directory.c_str(), way.type.c_str(), kFlags,
              way.options.c_str()) == 0) {
    return OkStatus();
  }
  const int error = errno;
  if (error == ENODEV && !way.helper.empty()) {
    return RunHelper(way, device, directory);
  }
  if (error == ENODEV) {
    return Error{ErrorCode::kUnsupported,
                 "the kernel has no " + way.type + "; load its module"};
  }
  return ErrnoError(error, "mount " + device + " (" + way.type + ")");
}

// Its path without links, which is how the kernel calls it, and whether it was
// not there.
Result<std::pair<std::string, bool>> MakeDirectory(const std::string& name) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(name, error);
  if (error) return ErrnoError(error.value(), name);
  const auto path = std::filesystem::canonical(name, error);
  if (error) return ErrnoError(error.value(), name);
  return std::pair(path.string(), made);
}

// A helper process lets go of the device a moment after the mount has gone.
Status WaitUntilDetached(const std::string& device) {
  const auto deadline = std::chrono::steady_clock::now() + kReleaseTimeout;
  while (ReadDeviceAttribute(device, "loop/backing_file")) {
    if (std::chrono::steady_clock::now() > deadline) {
      return Error{ErrorCode::kUnavailable,
                   DevicePath(device) + " is still held open by somebody"};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return OkStatus();
}

Status Unmount(const SourceMount& mount) {
  const std::string device = DevicePath(mount.device);
  while (IsMounted(device, mount.directory)) {
    if (::umount2(mount.directory.c_str(), UMOUNT_NOFOLLOW) == 0) continue;
    if (errno == EBUSY) {
      return Error{
          ErrorCode::kRefused,
          mount.directory + " is in use; leave it and close its files first"};
    }
    return ErrnoError(errno, "unmount " + mount.directory);
  }
  if (auto s = WaitUntilDetached(mount.device); !s) return s;
  RemoveUdevRole(mount.device);
  if (mount.made_directory) ::rmdir(mount.directory.c_str());
  return OkStatus();
}

std::optional<SourceMount> FromJson(const json& item) {
  try {
    SourceMount mount;
    item.at("directory").get_to(mount.directory);
    item.at("device").get_to(mount.device);
    item.at("partition").get_to(mount.partition);
    item.at("made_directory").get_to(mount.made_directory);
    return mount;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

json ToJson(const SourceMount& mount) {
  return {{"directory", mount.directory},
          {"device", mount.device},
          {"partition", mount.partition},
          {"made_directory", mount.made_directory}};
}

}  // namespace

Result<SourceMounts> SourceMounts::Load(std::string record) {
  SourceMounts mounts(std::move(record));
  const auto bytes = ReadWholeFile(mounts.record_, kRecordBytesMax);
  if (!bytes) {
    if (bytes.error().code == ErrorCode::kNotFound) return mounts;
    return bytes.error();
  }
  const auto* text = reinterpret_cast<const char*>(bytes->data());
  const json all = json::parse(text, text + bytes->size(), nullptr, false);
  const Error strange{ErrorCode::kCorrupt,
                      mounts.record_ +
                          " is not what streamctl writes; unmount "
                          "the old system by hand and remove it"};
  if (!all.is_array()) return strange;
  for (const json& item : all) {
    auto mount = FromJson(item);
    if (!mount) return strange;
    mounts.mounts_.push_back(std::move(*mount));
  }
  return mounts;
}

Status SourceMounts::Save() const {
  if (mounts_.empty()) {
    ::unlink(record_.c_str());
    return OkStatus();
  }
  json all = json::array();
  for (const SourceMount& mount : mounts_) all.push_back(ToJson(mount));
  const std::string text = all.dump() + "\n";
  return WriteFileDurably(record_, std::as_bytes(std::span(text)), 0600,
                          IfExists::kReplace);
}

Status SourceMounts::Mount(const std::string& disk,
                           const SourceFilesystem& filesystem,
                           const std::string& name) {
  const auto way = HowToMount(filesystem);
  if (!way) return way.error();
  if (auto s = CheckOnlyOne(filesystem); !s) return s;
  const auto made = MakeDirectory(name);
  if (!made) return made.error();
  const std::string& directory = made->first;
  const bool taken = std::ranges::any_of(
      mounts_,
      [&](const SourceMount& mount) { return mount.directory == directory; });
  if (taken) {
    return Error{ErrorCode::kRefused,
                 directory +
                     " shows the old system already; 'streamctl source "
                     "detach' takes that away"};
  }
  const auto device = AttachPartition(disk, filesystem);
  if (!device) return device.error();
  mounts_.push_back({directory, *device, filesystem.partition, made->second});
  // Before it is mounted: nothing of it is ever lost track of.
  Status status = Save();
  if (status) status = MountDevice(*way, DevicePath(*device), directory);
  // In any case it goes with its last user.
  if (auto s = AbandonLoop(*device); !s && status) status = s;
  if (status) return status;
  const SourceMount failed = std::move(mounts_.back());
  mounts_.pop_back();
  (void)Unmount(failed);
  (void)Save();
  return Annotate(status.error(), Describe(filesystem));
}

Status SourceMounts::UnmountAll() {
  while (!mounts_.empty()) {
    if (auto s = Unmount(mounts_.back()); !s) return s;
    mounts_.pop_back();
    if (auto s = Save(); !s) return s;
  }
  return OkStatus();
}

}  // namespace bootstream
