#ifndef INITRAMFS_RECOVERY_RECOVERY_COMMAND_H_
#define INITRAMFS_RECOVERY_RECOVERY_COMMAND_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "initramfs/driver/control_client.h"

namespace bootstream {

// `streamctl recovery-set`: reads what the network needs to come back while the
// driver looks on, which does not give up for room what is read then. Blocking;
// as root.
class RecoveryCommand {
 public:
  // Adds itself to `app`, and is not moved then.
  explicit RecoveryCommand(CLI::App& app);
  RecoveryCommand(const RecoveryCommand&) = delete;
  RecoveryCommand& operator=(const RecoveryCommand&) = delete;

  // After `app` was parsed: do what was asked for; the exit code.  nullopt:
  // another command was.
  std::optional<int> Run(ControlClient& client) const;

 private:
  Status ReadAll(ControlClient& client) const;

  CLI::App* command_;
  std::string root_ = "/";
  std::string list_ = "/etc/bootstream/recovery-set";
  double patience_seconds_ = 60;
};

}  // namespace bootstream

#endif  // INITRAMFS_RECOVERY_RECOVERY_COMMAND_H_
