#ifndef IMGSERVER_QEMU_PROCESS_H_
#define IMGSERVER_QEMU_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// A child process whose standard output and error come through a pipe.  Killed
// and reaped by the destructor if it still runs.
class ChildProcess {
 public:
  // kNotFound: no such program; says which package to install.
  static Result<std::unique_ptr<ChildProcess>> Start(
      const std::vector<std::string>& arguments);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Non-blocking; ends when the child and all of its children have.
  int output_fd() const { return output_.get(); }
  void Kill() const;

 private:
  ChildProcess(pid_t pid, UniqueFd output)
      : pid_(pid), output_(std::move(output)) {}
  pid_t pid_;
  UniqueFd output_;
};

enum class Firmware { kUefi, kBios };

struct MachineOptions {
  Firmware firmware = Firmware::kUefi;
  uint32_t memory_mib = 2048;
  std::string accel = "tcg,thread=multi";
  std::string disk_socket;     // NBD on a Unix socket
  std::string variables_file;  // UEFI: a copy of the variables, to be written
};

// The command line of a machine whose serial console is standard output.
std::vector<std::string> QemuCommand(const MachineOptions& options);

inline constexpr const char* kOvmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd";
inline constexpr const char* kOvmfVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd";

}  // namespace bootstream

#endif  // IMGSERVER_QEMU_PROCESS_H_
