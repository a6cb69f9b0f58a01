// The firmware's boot variables.  The input: for each of a few variables a u16
// length and its bytes, attributes first.

#include "bootagent/efi_boot.h"

#include <algorithm>
#include <array>
#include <map>

#include "blockmap/base/coding.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {
namespace {

constexpr std::string_view kGlobal = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";
constexpr std::string_view kOurs = "-5f0a2c9e-3f1b-4c57-9d0e-7b1a4c6d8e21";
constexpr std::array<std::string_view, 4> kNames = {"Boot0000", "Boot0001",
                                                    "BootOrder", "BootNext"};

constexpr size_t kAttributesBytes = 4;

// A firmware whose variables are in memory.
class Variables final : public EfiVariables {
 public:
  using Bytes = std::vector<std::byte>;

  bool available() const override { return true; }
  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& [name, value] : values_) names.push_back(name);
    return names;
  }
  Result<Bytes> Read(const std::string& name) const override {
    const auto found = values_.find(name);
    if (found != values_.end()) return found->second;
    return Error{ErrorCode::kNotFound, name};
  }
  Status Write(const std::string& name,
               std::span<const std::byte> data) override {
    values_[name].assign(data.begin(), data.end());
    return OkStatus();
  }
  Status Remove(const std::string& name) override {
    values_.erase(name);
    return OkStatus();
  }

 private:
  std::map<std::string, Bytes> values_;
};

std::string Join(std::string_view name, std::string_view vendor) {
  return std::string(name) + std::string(vendor);
}

}  // namespace

FUZZ_TARGET(efi_boot) {
  Variables variables;
  ByteReader in(input);
  const auto put = [&](const std::string& name, size_t size) {
    const auto bytes = in.Bytes(std::min(size, in.remaining()));
    if (bytes.size() < kAttributesBytes) return;
    (void)variables.Write(name, bytes.subspan(kAttributesBytes));
  };
  for (const std::string_view name : kNames) {
    put(Join(name, kGlobal), in.U16());
  }
  put(Join("BootstreamSaved", kOurs), in.remaining());
  PartitionTable table;
  Partition esp;
  esp.number = 1;
  esp.extent = {1 << 20, 64 << 20};
  esp.type_guid = kEspTypeGuid;
  esp.guid.fill(std::byte{0x22});
  table.partitions.push_back(esp);
  const EfiBoot efi(variables);
  Require(efi.Save(table).has_value(), "the entries can be saved");
  Require(efi.StartNextFrom(table).has_value(), "the target can be started");
  Require(efi.Restore().has_value(), "the entries can be put back");
}

}  // namespace bootstream
