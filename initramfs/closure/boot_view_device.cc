#include "initramfs/closure/boot_view_device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <utility>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

using nlohmann::json;

constexpr int kDetachTries = 100;
constexpr int kBetweenTriesMs = 100;

}  // namespace

Result<BootViewDevice> BootViewDevice::Attach(
    ControlClient& client, std::optional<uint64_t> bring_for_ms) {
  json request = {{"command", "boot-view"}, {"action", "attach"}};
  if (bring_for_ms) request["bring_for_ms"] = *bring_for_ms;
  const auto reply = client.Ask(request);
  if (!reply) return reply.error();
  const json device = reply->value("device", json());
  const json failure = reply->value("failure", json());
  BootViewDevice view(client);
  view.attached_ = device.is_string();
  if (view.attached_) {
    view.path_ = device;
    view.DropBuffers();
  }
  if (failure.is_string()) view.failure_ = failure;
  return view;
}

BootViewDevice::BootViewDevice(BootViewDevice&& other) noexcept
    : client_(other.client_),
      attached_(std::exchange(other.attached_, false)),
      path_(std::move(other.path_)),
      failure_(std::move(other.failure_)) {}

Status BootViewDevice::Detach() {
  if (!std::exchange(attached_, false)) return OkStatus();
  const auto reply = AskToDetach();
  if (!reply) return reply.error();
  if (reply->value("late", json()) != true) return OkStatus();
  return Error{ErrorCode::kUnavailable,
               "not everything that the boot loader will read has come from "
               "the server in time; with the server back, 'streamctl closure' "
               "goes on"};
}

// Somebody may look at a new device for a moment, as udev does.
Result<json> BootViewDevice::AskToDetach() {
  for (int tries = 0;; ++tries) {
    auto reply =
        client_.Ask({{"command", "boot-view"}, {"action", "detach"}});
    const bool in_use = !reply && reply.error().code == ErrorCode::kRefused;
    if (!in_use || tries == kDetachTries) return reply;
    ::poll(nullptr, 0, kBetweenTriesMs);
  }
}

// What an earlier look at the device has left in memory is not what is there.
void BootViewDevice::DropBuffers() const {
  const UniqueFd device(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (device) ::ioctl(device.get(), BLKFLSBUF, 0);
}

}  // namespace bootstream
