#ifndef BOOTAGENT_EFI_VARIABLES_H_
#define BOOTAGENT_EFI_VARIABLES_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

// The door to the firmware's variables.  A name is what efivarfs calls it: the
// variable's name, a dash, the vendor's GUID.  One thread at a time.
class EfiVariables {
 public:
  virtual ~EfiVariables() = default;

  // The machine was started by UEFI, and its variables can be reached.
  virtual bool available() const = 0;
  // In any order; empty if they cannot be listed.
  virtual std::vector<std::string> Names() const = 0;
  // The value without its attributes.  kNotFound, kCorrupt: shorter than those.
  virtual Result<std::vector<std::byte>> Read(
      const std::string& name) const = 0;
  // One change, made or replaced whole; non-volatile, for boot services and at
  // run time.
  virtual Status Write(const std::string& name,
                       std::span<const std::byte> data) = 0;
  // OK if it is not there.
  virtual Status Remove(const std::string& name) = 0;
};

// Those of the machine that we run on, or a folder of files like theirs
// (Linux, Documentation/filesystems/efivarfs.rst).
std::unique_ptr<EfiVariables> OpenEfiVarFs(
    std::string directory = "/sys/firmware/efi/efivars");

}  // namespace bootstream

#endif  // BOOTAGENT_EFI_VARIABLES_H_
