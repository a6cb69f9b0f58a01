#include "initramfs/closure/kept_kernel.h"

#include <fcntl.h>
#include <linux/reboot.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

#include "blockmap/base/unique_fd.h"
#include "initramfs/system/read_files.h"

namespace bootstream {
namespace {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

bool HasWord(const std::string& line, std::string_view wanted) {
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    if (word == wanted) return true;
  }
  return false;
}

Status Load(const KernelFiles& files) {
  const UniqueFd kernel(::open(files.kernel.c_str(), O_RDONLY | O_CLOEXEC));
  if (!kernel) return ErrnoError(errno, "open " + files.kernel);
  const UniqueFd initramfs(
      ::open(files.initramfs.c_str(), O_RDONLY | O_CLOEXEC));
  if (!initramfs) return ErrnoError(errno, "open " + files.initramfs);
  if (::syscall(SYS_kexec_file_load, kernel.get(), initramfs.get(),
                files.command_line.size() + 1, files.command_line.c_str(),
                0) != 0) {
    return ErrnoError(errno, "kexec_file_load " + files.kernel);
  }
  return OkStatus();
}

}  // namespace

Result<KernelFiles> FindKernel(const std::string& root,
                               const std::string& release,
                               const std::string& command_line,
                               const std::string& word) {
  const std::filesystem::path boot = std::filesystem::path(root) / "boot";
  KernelFiles files{.kernel = boot / ("vmlinuz-" + release),
                    .initramfs = boot / ("initrd.img-" + release),
                    .command_line = command_line};
  for (const std::string& file : {files.kernel, files.initramfs}) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(file, error)) {
      return Error{ErrorCode::kNotFound, "there is no " + file};
    }
  }
  if (!HasWord(command_line, word)) files.command_line += " " + word;
  return files;
}

Status KeepKernel(const std::string& root, const std::string& word,
                  Deadline deadline) {
  if (FirstLine("/sys/kernel/kexec_loaded") == "1") return OkStatus();
  utsname running;
  if (::uname(&running) != 0) return ErrnoError(errno, "uname");
  auto files =
      FindKernel(root, running.release, FirstLine("/proc/cmdline"), word);
  if (!files) return files.error();
  const Status read =
      ReadFiles("/", {files->kernel, files->initramfs}, deadline);
  if (!read) return read;
  return Load(*files);
}

Status StartKeptKernel() {
  ::sync();
  ::syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
            LINUX_REBOOT_CMD_KEXEC, nullptr);
  return ErrnoError(errno, "restart into the kernel in memory");
}

}  // namespace bootstream
