#ifndef BOOTAGENT_LOCATE_H_
#define BOOTAGENT_LOCATE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/map/map_store.h"
#include "bootagent/image_access.h"
#include "bootagent/job.h"

namespace bootstream {

// A migration on the disk, and how it was found.
struct Located {
  enum class By { kNothing, kRegionFile, kStub, kAnchor };
  By by = By::kNothing;
  std::optional<Superblock> superblock;  // empty: there is none
  std::vector<std::string> warnings;
};

// By anchor or stub; else, before and after a migration has changed the tables,
// by the superblock in a tagged region file of an ext4 file system.
Task<Result<Located>> Locate(const Job& job);

// A migration that was located, opened.
struct OpenedMigration {
  std::shared_ptr<const Manifest> manifest;
  std::vector<std::byte> manifest_file;
  std::unique_ptr<MapStore> store;
};

// Read the manifest's copy in the region, check it against the pinned digest,
// and open the map.
Task<Result<OpenedMigration>> OpenMigration(const Job& job,
                                            const Superblock& superblock,
                                            bool read_only);

// Versions of an image only rise while a migration is on the disk: kRefused if
// `fetched` is of the same image, older, and not the one that is pinned.
Status CheckNotOlder(const Superblock& on_disk, const Manifest& fetched);

}  // namespace bootstream

#endif  // BOOTAGENT_LOCATE_H_
