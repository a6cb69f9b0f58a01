#include "bootagent/efi_variables.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "blockmap/base/coding.h"
#include "blockmap/base/file_util.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

// Non-volatile, boot service and runtime access.
constexpr uint32_t kAttributes = 7;
constexpr size_t kAttributesBytes = 4;
constexpr uint64_t kVariableBytesMax = uint64_t{64} << 10;

// efivarfs marks what it does not know as immutable.
void MakeMutable(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  int flags = 0;
  if (!fd || ::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return;
  flags &= ~FS_IMMUTABLE_FL;
  ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags);
}

class EfiVarFs final : public EfiVariables {
 public:
  explicit EfiVarFs(std::string directory) : directory_(std::move(directory)) {}

  bool available() const override {
    std::error_code error;
    return std::filesystem::is_directory(directory_, error) &&
           !std::filesystem::is_empty(directory_, error);
  }
  std::vector<std::string> Names() const override;
  Result<std::vector<std::byte>> Read(const std::string& name) const override;
  Status Write(const std::string& name,
               std::span<const std::byte> data) override;
  Status Remove(const std::string& name) override;

 private:
  std::string Path(const std::string& name) const {
    return directory_ + "/" + name;
  }

  std::string directory_;
};

std::vector<std::string> EfiVarFs::Names() const {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& file :
       std::filesystem::directory_iterator(directory_, error)) {
    names.push_back(file.path().filename());
  }
  return names;
}

Result<std::vector<std::byte>> EfiVarFs::Read(const std::string& name) const {
  auto bytes = ReadWholeFile(Path(name), kVariableBytesMax);
  if (!bytes) return bytes.error();
  if (bytes->size() < kAttributesBytes) {
    return Error{ErrorCode::kCorrupt, "boot variable " + name + " is empty"};
  }
  bytes->erase(bytes->begin(), bytes->begin() + kAttributesBytes);
  return bytes;
}

Status EfiVarFs::Write(const std::string& name,
                       std::span<const std::byte> data) {
  std::vector<std::byte> bytes;
  ByteWriter out(bytes);
  out.U32(kAttributes);
  out.Bytes(data);
  const std::string path = Path(name);
  MakeMutable(path);
  const UniqueFd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return ErrnoError(errno, "open boot variable " + name);
  // One write is one change of the variable.
  if (::write(fd.get(), bytes.data(), bytes.size()) !=
      static_cast<ssize_t>(bytes.size())) {
    return ErrnoError(errno, "write boot variable " + name);
  }
  return OkStatus();
}

Status EfiVarFs::Remove(const std::string& name) {
  const std::string path = Path(name);
  MakeMutable(path);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoError(errno, "remove boot variable " + name);
  }
  return OkStatus();
}

}  // namespace

std::unique_ptr<EfiVariables> OpenEfiVarFs(std::string directory) {
  return std::make_unique<EfiVarFs>(std::move(directory));
}

}  // namespace bootstream
