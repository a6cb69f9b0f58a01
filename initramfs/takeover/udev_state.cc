#include "initramfs/takeover/udev_state.h"

#include <fcntl.h>
#include <libudev.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <system_error>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

constexpr char kRoleFolder[] = "/run/bootstream/udev/";
constexpr char kLinksKey[] = "BOOTSTREAM_LINKS=";
constexpr std::chrono::seconds kUdevWait{60};

template <auto kFree>
struct Unref {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Udev = std::unique_ptr<udev, Unref<udev_unref>>;
using UdevDevice = std::unique_ptr<udev_device, Unref<udev_device_unref>>;
using UdevMonitor = std::unique_ptr<udev_monitor, Unref<udev_monitor_unref>>;

// An event that we caused carries this; see the kernel's documentation of
// /sys/.../uevent.
Result<std::string> RandomUuid() {
  std::ifstream file("/proc/sys/kernel/random/uuid");
  std::string uuid;
  if (!(file >> uuid)) return ErrnoError(EIO, "/proc/sys/kernel/random/uuid");
  return uuid;
}

Status TriggerChange(const BlockNode& device, const std::string& uuid) {
  const std::string path = "/sys/class/block/" + device.name + "/uevent";
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const std::string text = "change " + uuid;
  if (!fd || write(fd.get(), text.data(), text.size()) < 0) {
    return ErrnoError(errno, path);
  }
  return OkStatus();
}

// Whether the next event of `monitor` is the one we asked for.
bool IsOurEvent(udev_monitor* monitor, const std::string& uuid) {
  const UdevDevice event(udev_monitor_receive_device(monitor));
  if (!event) return false;
  const char* value = udev_device_get_property_value(event.get(), "SYNTH_UUID");
  return value != nullptr && uuid == value;
}

Status WaitForEvent(udev_monitor* monitor, const std::string& uuid,
                    const std::string& name) {
  const auto deadline = std::chrono::steady_clock::now() + kUdevWait;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd entry = {udev_monitor_get_fd(monitor), POLLIN, 0};
    const int ready =
        left.count() > 0 ? poll(&entry, 1, static_cast<int>(left.count())) : 0;
    if (ready < 0 && errno != EINTR) return ErrnoError(errno, "wait for udev");
    if (ready == 0) {
      return Error{ErrorCode::kIo, "udev did not answer for " + name};
    }
    if (ready > 0 && IsOurEvent(monitor, uuid)) return OkStatus();
  }
}

}  // namespace

bool UdevIsRunning() { return access("/run/udev/control", F_OK) == 0; }

Result<std::vector<std::string>> StableLinks(const BlockNode& disk) {
  std::vector<std::string> links;
  const Udev context(udev_new());
  if (!context) return ErrnoError(ENOMEM, "libudev");
  const UdevDevice device(
      udev_device_new_from_devnum(context.get(), 'b', disk.number));
  if (!device) return links;
  udev_list_entry* entry;
  udev_list_entry_foreach(entry,
                          udev_device_get_devlinks_list_entry(device.get())) {
    const std::string_view link = udev_list_entry_get_name(entry);
    if (link.starts_with("/dev/disk/by-id/") ||
        link.starts_with("/dev/disk/by-path/")) {
      links.emplace_back(link.substr(std::strlen("/dev/")));
    }
  }
  return links;
}

Status WriteUdevRole(const std::string& name, std::string_view role,
                     const std::vector<std::string>& links) {
  std::error_code error;
  std::filesystem::create_directories(kRoleFolder, error);
  if (error) return ErrnoError(error.value(), kRoleFolder);
  const std::string path = kRoleFolder + name;
  const std::string fresh = path + ".new";
  {
    std::ofstream file(fresh, std::ios::trunc);
    file << "BOOTSTREAM_ROLE=" << role << "\n" << kLinksKey;
    const char* space = "";
    for (const std::string& link : links) {
      file << space << link;
      space = " ";
    }
    file << "\n";
    if (!file.flush()) return ErrnoError(EIO, fresh);
  }
  if (rename(fresh.c_str(), path.c_str()) != 0) return ErrnoError(errno, path);
  return OkStatus();
}

Result<std::vector<std::string>> ReadUdevLinks(const std::string& name) {
  const std::string path = kRoleFolder + name;
  std::ifstream file(path);
  if (!file) return Error{ErrorCode::kNotFound, path + " does not exist"};
  std::vector<std::string> links;
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with(kLinksKey)) continue;
    std::istringstream words(line.substr(std::strlen(kLinksKey)));
    std::string link;
    while (words >> link) links.push_back(link);
  }
  return links;
}

void RemoveUdevRole(const std::string& name) {
  unlink((kRoleFolder + name).c_str());
}

Status RefreshUdev(const BlockNode& device) {
  if (!UdevIsRunning()) return OkStatus();
  Result<std::string> uuid = RandomUuid();
  if (!uuid) return uuid.error();
  const Udev context(udev_new());
  if (!context) return ErrnoError(ENOMEM, "libudev");
  const UdevMonitor monitor(
      udev_monitor_new_from_netlink(context.get(), "udev"));
  if (!monitor ||
      udev_monitor_filter_add_match_subsystem_devtype(monitor.get(), "block",
                                                      nullptr) < 0 ||
      udev_monitor_enable_receiving(monitor.get()) < 0) {
    return ErrnoError(errno, "listen to udev");
  }
  if (auto sent = TriggerChange(device, *uuid); !sent) return sent;
  return WaitForEvent(monitor.get(), *uuid, device.name);
}

}  // namespace bootstream
