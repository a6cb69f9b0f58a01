#ifndef IMGSERVER_REPOSITORY_H_
#define IMGSERVER_REPOSITORY_H_

#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"
#include "blockmap/image/latest.h"
#include "blockmap/image/manifest.h"

namespace bootstream {

// A repository in a folder of this machine (format.md 1).  What is being
// written lies in .tmp, which no server shows, until it is renamed to its place
// whole: packs, then manifest, then latest.
class Repository {
 public:
  struct Version {
    std::string name;
    std::string version;
    std::string path;  // of the manifest
  };

  // Make the folder if it is not there.
  static Result<Repository> OpenOrCreate(const std::string& folder);
  // kNotFound: no such folder.
  static Result<Repository> Open(const std::string& folder);

  // For as long as the result lives nobody else builds into this repository;
  // kUnavailable if somebody does now.  Removes what a build that was killed
  // has left in .tmp.
  Result<UniqueFd> Lock() const;

  const std::string& folder() const { return folder_; }
  std::string temporary_folder() const { return folder_ + "/.tmp"; }
  std::string pack_path(const Sha256& digest) const;
  std::string manifest_path(const std::string& name,
                            const std::string& version) const;
  std::string latest_path(const std::string& name) const;

  // Every manifest, by name, then version.  Folders whose names are not what
  // format.md says are passed over.
  Result<std::vector<Version>> Versions() const;
  // kNotFound; and what Manifest::Open says.  Without keys the signature is not
  // looked at.
  static Result<Manifest> Load(const Version& version, const TrustedKeys* keys);
  // kNotFound: there is none.
  Result<Latest> LoadLatest(const std::string& name,
                            const TrustedKeys& keys) const;
  // Is the pack there, whole by its size?
  bool HasPack(const PackEntry& pack) const;

  // Put a finished file of .tmp into its place as a pack, durably.
  Status PublishPack(const std::string& temporary, const Sha256& digest) const;
  Status PublishManifest(const std::string& name, const std::string& version,
                         std::span<const std::byte> file) const;
  Status PublishLatest(const std::string& name,
                       std::span<const std::byte> file) const;

 private:
  explicit Repository(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
};

}  // namespace bootstream

#endif  // IMGSERVER_REPOSITORY_H_
