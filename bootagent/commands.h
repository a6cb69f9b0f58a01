#ifndef BOOTAGENT_COMMANDS_H_
#define BOOTAGENT_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

// What the command line says; main.cc fills it in.
struct CommandOptions {
  std::string disk;
  std::string serial;  // of a disk file
  std::vector<std::string> servers;
  std::string image;
  std::string public_key;
  std::string ca;
  std::vector<std::string> min_versions;  // the highest counts
  std::string region;                     // partition: "3", "/dev/vda3"
  std::string when_full;
  std::string network;
  std::string plan_in;
  std::string plan_out;
  bool json = false;
  bool yes = false;
  bool dry_run = false;
  // For tests.
  std::string stop_at;
  std::optional<uint64_t> headroom_bytes;
  uint32_t batch_chunks = 64;
  double give_up_seconds = 300;
  uint32_t stall_timeout_ms = 15000;
  bool offline = false;
  std::optional<uint32_t> if_unhealthy;  // boots
};

// One function for each command: print the result to stdout, or return why
// there is none.
Status RunPlan(const CommandOptions& options);
Status RunMigrate(CommandOptions options);
Status RunRollback(const CommandOptions& options);
Status RunReturn(const CommandOptions& options);
Status RunForget(const CommandOptions& options);
Status RunStatus(const CommandOptions& options);
Status RunCheck(const CommandOptions& options);
// Let the next start be from the disk that is armed (UEFI).
Status RunBootDisk(const CommandOptions& options);

}  // namespace bootstream

#endif  // BOOTAGENT_COMMANDS_H_
