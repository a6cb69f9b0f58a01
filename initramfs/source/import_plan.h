#ifndef INITRAMFS_SOURCE_IMPORT_PLAN_H_
#define INITRAMFS_SOURCE_IMPORT_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

// Which of the old system's folders go where, and whose they are then.  Reads
// directories and account files; changes nothing.

namespace bootstream {

struct ImportRequest {
  // Where file systems of the old system are mounted.
  std::vector<std::string> roots;
  // Folders of the old system, as it called them; empty: everybody's home.
  std::vector<std::string> folders;
  std::string to;                      // empty: where they belong
  std::vector<std::string> map_owner;  // "OLD:NEW": names, or numbers
  std::string new_root = "/";          // for tests
};

// A whole number for each that must change.
struct IdMap {
  uint32_t from = 0;
  uint32_t to = 0;
};

struct ImportFolder {
  // What is copied: everything in `from`, or `part` of it with the folders that
  // lead there.
  std::string from;
  std::string part;
  std::string to;
  std::vector<IdMap> users;  // the first that fits counts
  std::vector<IdMap> groups;
  // From a file system that knows no owners: all of it is this one's, and
  // private.
  bool has_owner = false;
  uint32_t owner = 0;
  uint32_t group = 0;
  std::vector<std::string> notes;  // sentences for people
};

// kNotFound: there is no old system, or no such folder; kInvalid: a request
// that cannot be.
Result<std::vector<ImportFolder>> PlanImport(const ImportRequest& request);

// The command that copies one folder; run again it goes on.  What is newer in
// the new system stays; what is older is kept beside.
std::vector<std::string> RsyncCommand(const ImportFolder& folder, bool dry_run,
                                      bool show_progress);

}  // namespace bootstream

#endif  // INITRAMFS_SOURCE_IMPORT_PLAN_H_
