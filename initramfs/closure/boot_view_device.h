#ifndef INITRAMFS_CLOSURE_BOOT_VIEW_DEVICE_H_
#define INITRAMFS_CLOSURE_BOOT_VIEW_DEVICE_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "initramfs/driver/control_client.h"

namespace bootstream {

// The device of control.md, "boot-view", while it lives.  Blocking.
class BootViewDevice {
 public:
  // `bring_for_ms`: nullopt: only look.  `client` must outlive it.
  static Result<BootViewDevice> Attach(ControlClient& client,
                                       std::optional<uint64_t> bring_for_ms);
  BootViewDevice(BootViewDevice&& other) noexcept;
  BootViewDevice& operator=(BootViewDevice&&) = delete;
  ~BootViewDevice() { (void)Detach(); }

  // False: everything is in its place.
  bool attached() const { return attached_; }
  const std::string& path() const { return path_; }
  // A block of a pinned range that was written in part is not whole; empty: all
  // are.
  const std::string& failure() const { return failure_; }

  // What was brought is durable then.  kUnavailable: something did not come in
  // time.
  Status Detach();

 private:
  explicit BootViewDevice(ControlClient& client) : client_(client) {}
  Result<nlohmann::json> AskToDetach();
  void DropBuffers() const;

  ControlClient& client_;
  bool attached_ = false;
  std::string path_;
  std::string failure_;
};

}  // namespace bootstream

#endif  // INITRAMFS_CLOSURE_BOOT_VIEW_DEVICE_H_
