#ifndef BOOTAGENT_EFI_BOOT_H_
#define BOOTAGENT_EFI_BOOT_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/disk/partition_table.h"
#include "bootagent/efi_variables.h"

namespace bootstream {

// The firmware's boot variables (UEFI specification 2.10, chapter 3).
//
// BootOrder is never changed, so the network entry that brought the agent stays
// where it is, and a failed start falls back to it.  A target is started by a
// boot entry of ours that only BootNext points at: one attempt, decided anew
// each time.  Firmware drops entries whose partition has vanished, so the
// source's are saved first, in a variable of our own: it is there before any
// disk is readable and goes with the machine, not with the disk.
class EfiBoot {
 public:
  // `variables` must outlive this.
  explicit EfiBoot(EfiVariables& variables) : variables_(variables) {}

  // The machine was started by UEFI, and its variables can be reached.
  bool available() const { return variables_.available(); }

  // Keep BootOrder and the entries that lead to a partition of `table`, unless
  // a saved copy is there.
  Status Save(const PartitionTable& table) const;
  // Put back what Save kept and the firmware has dropped; remove our own entry
  // and the copy.  With no copy only our entry goes.
  Status Restore() const;
  // Let the next start, and only that, be from the EFI system partition of
  // `table`: an entry there is for it, or ours for \EFI\BOOT\BOOTX64.EFI.
  // kNotFound: there is no such partition.
  Status StartNextFrom(const PartitionTable& table) const;

 private:
  using Bytes = std::vector<std::byte>;
  struct Entry {
    uint16_t number = 0;
    Bytes option;  // EFI_LOAD_OPTION
  };
  std::vector<Entry> Entries() const;
  std::optional<Entry> OwnEntry() const;

  EfiVariables& variables_;
};

}  // namespace bootstream

#endif  // BOOTAGENT_EFI_BOOT_H_
