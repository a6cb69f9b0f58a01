#ifndef INITRAMFS_SOURCE_SOURCE_COMMAND_H_
#define INITRAMFS_SOURCE_SOURCE_COMMAND_H_

#include <CLI/CLI.hpp>
#include <optional>

#include "initramfs/driver/control_client.h"

namespace bootstream {

// `streamctl source ...`: the old system, from the new one.  Blocking.
class SourceCommand {
 public:
  // Adds itself to `app`, which it must outlive as it is: not moved.
  explicit SourceCommand(CLI::App& app);
  SourceCommand(const SourceCommand&) = delete;
  SourceCommand& operator=(const SourceCommand&) = delete;

  // After `app` was parsed: do what was asked for; the exit code.  nullopt:
  // another command was.
  std::optional<int> Run(ControlClient& client) const;

 private:
  CLI::App* source_;
  CLI::App* attach_;
  CLI::App* detach_;
};

}  // namespace bootstream

#endif  // INITRAMFS_SOURCE_SOURCE_COMMAND_H_
