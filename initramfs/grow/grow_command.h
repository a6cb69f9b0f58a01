#ifndef INITRAMFS_GROW_GROW_COMMAND_H_
#define INITRAMFS_GROW_GROW_COMMAND_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "initramfs/driver/control_client.h"
#include "initramfs/grow/grow.h"

namespace bootstream {

// `streamctl grow`: the image grows to the disk that the driver has left.
// Blocking; needs root.
class GrowCommand {
 public:
  // Adds itself to `app`, and is not moved then.
  explicit GrowCommand(CLI::App& app);
  GrowCommand(const GrowCommand&) = delete;
  GrowCommand& operator=(const GrowCommand&) = delete;

  // After `app` was parsed: do what was asked for; the exit code.  nullopt:
  // another command was.  `control`: the driver's socket, if there is a driver.
  std::optional<int> Run(const std::string& control) const;

 private:
  // Whether it is wished for when this returns; then no driver is there.
  Result<bool> WaitUntilDetached(const std::string& control) const;
  Result<bool> WaitOnce(ControlClient& client) const;
  Result<GrowReport> Grow() const;
  int WhenDetached(const std::string& control) const;
  void Print(const GrowReport& report) const;

  CLI::App* grow_;
  bool when_detached_ = false;
  bool dry_run_ = false;
  bool as_json_ = false;
  std::string root_ = "/";
  std::string wish_ = "/var/lib/bootstream/grow";
};

}  // namespace bootstream

#endif  // INITRAMFS_GROW_GROW_COMMAND_H_
