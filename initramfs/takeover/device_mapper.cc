#include "initramfs/takeover/device_mapper.h"

#include <libdevmapper.h>
#include <sys/sysmacros.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "blockmap/base/types.h"
#include "initramfs/takeover/udev_state.h"

namespace bootstream {
namespace {

using Task = std::unique_ptr<dm_task, decltype(&dm_task_destroy)>;

// libdevmapper's last complaint, to be given as the cause.
std::string& LastMessage() {
  static std::string message;
  return message;
}

__attribute__((format(printf, 5, 6))) void KeepMessage(
    int level, const char* /*file*/, int /*line*/, int /*error*/,
    const char* format, ...) {
  if ((level & 7) > 3) return;  // _LOG_ERR and worse
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  LastMessage() = text;
}

Error TaskError(const Task& task, const std::string& what) {
  std::string cause = LastMessage();
  const int number = task ? dm_task_get_errno(task.get()) : 0;
  if (cause.empty() && number != 0) cause = std::strerror(number);
  return Error{ErrorCode::kIo, "device-mapper: " + what + ": " + cause};
}

Task NewTask(int type, const std::string& name) {
  dm_log_with_errno_init(KeepMessage);
  LastMessage().clear();
  dm_udev_set_sync_support(UdevIsRunning() ? 1 : 0);
  Task task(dm_task_create(type), dm_task_destroy);
  if (task && !dm_task_set_name(task.get(), name.c_str())) task.reset();
  return task;
}

// Run `task` and wait until udev has seen its event.
Status RunAndWait(const Task& task, uint16_t udev_flags,
                  const std::string& what) {
  uint32_t cookie = 0;
  if (!dm_task_set_cookie(task.get(), &cookie, udev_flags)) {
    return TaskError(task, what);
  }
  const bool done = dm_task_run(task.get());
  const Error error = TaskError(task, what);
  const bool waited = dm_udev_wait(cookie);
  dm_task_update_nodes();
  if (!done) return error;
  if (!waited) return TaskError(task, what + ": waiting for udev");
  return OkStatus();
}

// The line of a table after "start length linear".
std::string Parameters(const LinearDevice& device) {
  return std::to_string(major(device.below)) + ":" +
         std::to_string(minor(device.below)) + " " +
         std::to_string(device.start_bytes / kSectorBytes);
}

Status Create(const LinearDevice& device) {
  const std::string what = "create " + device.name;
  Task task = NewTask(DM_DEVICE_CREATE, device.name);
  if (!task || !dm_task_set_uuid(task.get(), device.uuid.c_str()) ||
      !dm_task_add_target(task.get(), 0, device.size_bytes / kSectorBytes,
                          "linear", Parameters(device).c_str())) {
    return TaskError(task, what);
  }
  const uint16_t flags = device.hidden ? DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG |
                                             DM_UDEV_DISABLE_DISK_RULES_FLAG |
                                             DM_UDEV_DISABLE_OTHER_RULES_FLAG
                                       : 0;
  return RunAndWait(task, flags, what);
}

// The device of `device`'s name: its number, and whether its live table is
// the one that `device` describes.
struct Found {
  bool exists = false;
  bool same_table = false;
  dev_t number = 0;
};

// Without udev and its cookies.
Status Run(const Task& task, const std::string& what) {
  if (!task || !dm_task_run(task.get())) return TaskError(task, what);
  return OkStatus();
}

Result<std::vector<std::string>> DeviceNames() {
  Task task(dm_task_create(DM_DEVICE_LIST), dm_task_destroy);
  if (auto s = Run(task, "list"); !s) return s.error();
  std::vector<std::string> names;
  const dm_names* entry = dm_task_get_names(task.get());
  if (entry == nullptr) return TaskError(task, "list");
  if (entry->dev == 0) return names;
  for (uint32_t next = 1; next != 0;) {
    names.emplace_back(entry->name);
    next = entry->next;
    entry = reinterpret_cast<const dm_names*>(
        reinterpret_cast<const char*>(entry) + next);
  }
  return names;
}

// The table of `name`, if it is one linear target over `below`.
Result<std::optional<LinearDevice>> ReadLinear(const std::string& name,
                                               dev_t below) {
  Task task = NewTask(DM_DEVICE_TABLE, name);
  if (auto s = Run(task, "look at " + name); !s) return s.error();
  uint64_t start = 0;
  uint64_t length = 0;
  char* type = nullptr;
  char* parameters = nullptr;
  const void* next = dm_get_next_target(task.get(), nullptr, &start, &length,
                                        &type, &parameters);
  unsigned below_major = 0;
  unsigned below_minor = 0;
  unsigned long long at = 0;
  if (next != nullptr || start != 0 || type == nullptr ||
      parameters == nullptr || std::strcmp(type, "linear") != 0 ||
      std::sscanf(parameters, "%u:%u %llu", &below_major, &below_minor, &at) !=
          3 ||
      makedev(below_major, below_minor) != below) {
    return std::optional<LinearDevice>();
  }
  LinearDevice device;
  device.name = name;
  device.below = below;
  device.start_bytes = at * kSectorBytes;
  device.size_bytes = length * kSectorBytes;
  return std::optional(std::move(device));
}

Result<Found> Find(const LinearDevice& device) {
  const std::string what = "look at " + device.name;
  Task task = NewTask(DM_DEVICE_TABLE, device.name);
  dm_info info = {};
  if (!task || !dm_task_run(task.get())) {
    if (task && dm_task_get_errno(task.get()) == ENXIO) return Found{};
    return TaskError(task, what);
  }
  if (!dm_task_get_info(task.get(), &info)) return TaskError(task, what);
  Found found;
  found.exists = info.exists != 0;
  if (!found.exists) return found;
  found.number = makedev(info.major, info.minor);
  uint64_t start = 0;
  uint64_t length = 0;
  char* type = nullptr;
  char* parameters = nullptr;
  void* next = dm_get_next_target(task.get(), nullptr, &start, &length, &type,
                                  &parameters);
  found.same_table = next == nullptr && type != nullptr &&
                     std::strcmp(type, "linear") == 0 && start == 0 &&
                     length == device.size_bytes / kSectorBytes &&
                     parameters != nullptr &&
                     Parameters(device) == parameters && !info.suspended;
  return found;
}

}  // namespace

Result<BlockNode> MakeLinearDevice(const LinearDevice& device) {
  Result<Found> found = Find(device);
  if (!found) return found.error();
  if (!found->exists) {
    if (auto created = Create(device); !created) return created.error();
    found = Find(device);
    if (!found) return found.error();
  }
  if (!found->same_table) {
    return Error{ErrorCode::kRefused, "device-mapper: " + device.name +
                                          " exists and is something else"};
  }
  // The node that devtmpfs made; the link in /dev/mapper is udev's.
  Result<BlockNode> node =
      FindBlockNode("/dev/dm-" + std::to_string(minor(found->number)));
  if (!node) return node;
  if (node->number != found->number || node->size_bytes != device.size_bytes) {
    return Error{ErrorCode::kIo, "device-mapper: " + device.name + " has " +
                                     std::to_string(node->size_bytes) +
                                     " bytes instead of " +
                                     std::to_string(device.size_bytes)};
  }
  return node;
}

Status RemoveLinearDevice(const std::string& name) {
  LinearDevice device;
  device.name = name;
  const Result<Found> found = Find(device);
  if (!found) return found.error();
  if (!found->exists) return OkStatus();
  const std::string what = "remove " + name;
  Task task = NewTask(DM_DEVICE_REMOVE, name);
  if (!task || !dm_task_retry_remove(task.get())) return TaskError(task, what);
  return RunAndWait(task, 0, what);
}

Result<std::vector<LinearDevice>> LinearDevicesOver(dev_t below) {
  const auto names = DeviceNames();
  if (!names) return names.error();
  std::vector<LinearDevice> devices;
  for (const std::string& name : *names) {
    auto device = ReadLinear(name, below);
    if (!device) return device.error();
    if (*device) devices.push_back(std::move(**device));
  }
  return devices;
}

Status LoadLinearTable(const LinearDevice& device) {
  Task task = NewTask(DM_DEVICE_RELOAD, device.name);
  if (!task ||
      !dm_task_add_target(task.get(), 0, device.size_bytes / kSectorBytes,
                          "linear", Parameters(device).c_str())) {
    return TaskError(task, "load " + device.name);
  }
  return Run(task, "load " + device.name);
}

Status ClearLinearTable(const std::string& name) {
  return Run(NewTask(DM_DEVICE_CLEAR, name), "clear " + name);
}

// Freezing the file system would write to it, and wait for that.
Status SuspendDevice(const std::string& name) {
  Task task = NewTask(DM_DEVICE_SUSPEND, name);
  if (!task || !dm_task_skip_lockfs(task.get())) {
    return TaskError(task, "suspend " + name);
  }
  return Run(task, "suspend " + name);
}

Status ResumeDevice(const std::string& name) {
  return Run(NewTask(DM_DEVICE_RESUME, name), "resume " + name);
}

Status ResizeLinearDevice(const LinearDevice& device) {
  if (auto s = LoadLinearTable(device); !s) return s;
  // A resume with a loaded table suspends, exchanges and goes on in one call.
  Task task = NewTask(DM_DEVICE_RESUME, device.name);
  const std::string what = "resize " + device.name;
  Status resumed = task && dm_task_skip_lockfs(task.get())
                       ? Run(task, what)
                       : Status(TaskError(task, what));
  if (!resumed) (void)ClearLinearTable(device.name);
  return resumed;
}

Status RemoveWhenClosed(const std::string& name) {
  Task task = NewTask(DM_DEVICE_REMOVE, name);
  if (!task || !dm_task_deferred_remove(task.get())) {
    return TaskError(task, "remove " + name);
  }
  return Run(task, "remove " + name);
}

}  // namespace bootstream
