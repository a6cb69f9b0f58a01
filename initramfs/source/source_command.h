#ifndef INITRAMFS_SOURCE_SOURCE_COMMAND_H_
#define INITRAMFS_SOURCE_SOURCE_COMMAND_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "initramfs/driver/control_client.h"
#include "initramfs/source/import_plan.h"
#include "initramfs/source/source_filesystems.h"
#include "initramfs/source/source_mounts.h"

namespace bootstream {

// `streamctl source ...`: the old system, from the new one.  Blocking; what it
// mounts and copies needs root.
class SourceCommand {
 public:
  // Adds itself to `app`, and is not moved then.
  explicit SourceCommand(CLI::App& app);
  SourceCommand(const SourceCommand&) = delete;
  SourceCommand& operator=(const SourceCommand&) = delete;

  // After `app` was parsed: do what was asked for; the exit code.  nullopt:
  // another command was.
  std::optional<int> Run(ControlClient& client);

 private:
  struct Attached {
    std::string device;
    bool already = false;
  };

  Result<Attached> AskToAttach(ControlClient& client) const;
  Status Unmount() const;
  Status TakeAway(ControlClient& client) const;
  int Attach(ControlClient& client) const;
  int Mount(ControlClient& client) const;
  Result<Attached> MountAll(ControlClient& client,
                            const std::string& directory) const;
  Status MountThese(const std::string& device,
                    const std::vector<SourceFilesystem>& found,
                    const std::string& directory, SourceMounts& mounts) const;
  int Import(ControlClient& client) const;
  int Detach(ControlClient& client) const;
  int ImportFromDevice(ControlClient& client) const;
  int Copy(ControlClient& client, const std::vector<std::string>& roots) const;
  int CopyAll(const std::vector<ImportFolder>& plan) const;

  CLI::App* source_;
  CLI::App* attach_;
  CLI::App* mount_;
  CLI::App* import_;
  CLI::App* detach_;
  std::string record_ = "/run/bootstream/source-mounts";
  std::string directory_;
  int partition_ = -1;  // all
  std::string from_;
  std::vector<std::string> folders_;
  std::string to_;
  std::vector<std::string> map_owner_;
  bool dry_run_ = false;
};

}  // namespace bootstream

#endif  // INITRAMFS_SOURCE_SOURCE_COMMAND_H_
