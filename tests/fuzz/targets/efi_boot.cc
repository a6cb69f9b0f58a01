// The firmware's boot variables.  The input: for each of a few variables a u16
// length and its bytes.

#include "bootagent/efi_boot.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "blockmap/base/coding.h"
#include "blockmap/base/file_util.h"
#include "blockmap/base/unique_fd.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {
namespace {

constexpr const char* kGlobal = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";
constexpr const char* kOurs = "-5f0a2c9e-3f1b-4c57-9d0e-7b1a4c6d8e21";
constexpr std::array kNames = {"Boot0000", "Boot0001", "BootOrder", "BootNext"};

// A folder in memory in the place of efivarfs, away at the end.
class Variables {
 public:
  Variables() : path_("/dev/shm/fuzz-efi-XXXXXX") {
    Require(::mkdtemp(path_.data()) != nullptr, "a temporary folder");
  }
  ~Variables() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  void Clear() const {
    for (const auto& file : std::filesystem::directory_iterator(path_)) {
      std::filesystem::remove(file.path());
    }
  }
  void Put(const std::string& name, std::span<const std::byte> bytes) const {
    const UniqueFd fd(::creat((path_ + "/" + name).c_str(), 0600));
    Require(fd && WriteAll(fd.get(), bytes).has_value(), "a variable");
  }

 private:
  std::string path_;
};

}  // namespace

FUZZ_TARGET(efi_boot) {
  static const Variables variables;
  variables.Clear();
  ByteReader in(input);
  for (const char* name : kNames) {
    const auto bytes = in.Bytes(std::min<size_t>(in.U16(), in.remaining()));
    if (!bytes.empty()) variables.Put(std::string(name) + kGlobal, bytes);
  }
  const auto saved = in.Bytes(in.remaining());
  if (!saved.empty()) {
    variables.Put(std::string("BootstreamSaved") + kOurs, saved);
  }
  PartitionTable table;
  Partition esp;
  esp.number = 1;
  esp.extent = {1 << 20, 64 << 20};
  esp.type_guid = kEspTypeGuid;
  esp.guid.fill(std::byte{0x22});
  table.partitions.push_back(esp);
  const EfiBoot efi(variables.path());
  Require(efi.Save(table).has_value(), "the entries can be saved");
  Require(efi.StartNextFrom(table).has_value(), "the target can be started");
  Require(efi.Restore().has_value(), "the entries can be put back");
}

}  // namespace bootstream
