#include "imgserver/repository.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "blockmap/base/file_util.h"
#include "blockmap/image/manifest_codec.h"
#include "blockmap/image/pack.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

Error FsError(const std::string& what, const std::error_code& code) {
  return Error{ErrorCode::kIo, what + ": " + code.message()};
}

// mkdir -p below `base`, each new name made durable.
Status MakeFolders(const std::string& base, const fs::path& relative) {
  std::string at = base;
  for (const auto& part : relative) {
    const std::string parent = at;
    at += "/" + part.string();
    std::error_code error;
    if (fs::create_directory(at, error)) {
      if (auto status = SyncDirectory(parent); !status) return status;
    } else if (error) {
      return FsError("create folder " + at, error);
    }
  }
  return OkStatus();
}

std::vector<std::string> FoldersIn(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; it != end && !error;
       it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored)) names.push_back(it->path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Result<Repository> Repository::OpenOrCreate(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return FsError("create repository " + folder, error);
  return Open(folder);
}

Result<Repository> Repository::Open(const std::string& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return Error{ErrorCode::kNotFound, folder + ": no such repository"};
  }
  return Repository(folder);
}

Result<UniqueFd> Repository::Lock() const {
  if (auto s = MakeFolders(folder_, ".tmp"); !s) return s.error();
  const std::string path = folder_ + "/.lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd) return ErrnoError(errno, "open " + path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoError(errno, "lock " + path);
    return Error{ErrorCode::kUnavailable,
                 folder_ +
                     ": another imgtool is building into this "
                     "repository; try again when it has ended"};
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(temporary_folder(), error)) {
    std::error_code ignored;
    fs::remove(entry.path(), ignored);
  }
  return fd;
}

std::string Repository::pack_path(const Sha256& digest) const {
  return folder_ + "/" + PackPath(digest);
}

std::string Repository::manifest_path(const std::string& name,
                                      const std::string& version) const {
  return folder_ + "/images/" + name + "/" + version + "/manifest";
}

std::string Repository::latest_path(const std::string& name) const {
  return folder_ + "/images/" + name + "/latest";
}

Result<std::vector<Repository::Version>> Repository::Versions() const {
  std::vector<Version> versions;
  const fs::path images = folder_ + "/images";
  for (const auto& name : FoldersIn(images)) {
    if (!CheckImageName(name)) continue;
    std::vector<std::pair<uint64_t, std::string>> found;
    for (const auto& version : FoldersIn(images / name)) {
      const auto number = ParseImageVersion(version);
      std::error_code error;
      if (number && fs::exists(manifest_path(name, version), error)) {
        found.emplace_back(*number, version);
      }
    }
    std::sort(found.begin(), found.end());
    for (const auto& [number, version] : found) {
      versions.push_back({name, version, manifest_path(name, version)});
    }
  }
  return versions;
}

Result<Manifest> Repository::Load(const Version& version,
                                  const TrustedKeys* keys) {
  const auto file = ReadWholeFile(version.path, kManifestBytesMax);
  if (!file) return file.error();
  auto manifest = [&]() -> Result<Manifest> {
    if (keys != nullptr) return Manifest::Open(*file, *keys);
    const auto envelope = OpenEnvelope(*file);
    if (!envelope) return envelope.error();
    return Manifest::OpenPinned(*file, Sha256Of(envelope->body));
  }();
  if (!manifest) return Annotate(manifest.error(), version.path);
  if (manifest->content().name != version.name ||
      manifest->content().version != version.version) {
    return Error{ErrorCode::kCorrupt,
                 version.path + ": is the manifest of another image"};
  }
  return manifest;
}

Result<Latest> Repository::LoadLatest(const std::string& name,
                                      const TrustedKeys& keys) const {
  const auto file = ReadWholeFile(latest_path(name), kLatestBytesMax);
  if (!file) return file.error();
  auto latest = OpenLatest(*file, name, keys);
  if (!latest) return Annotate(latest.error(), latest_path(name));
  return latest;
}

bool Repository::HasPack(const PackEntry& pack) const {
  std::error_code error;
  const auto size = fs::file_size(pack_path(pack.digest), error);
  return !error && size == pack.size_bytes;
}

Status Repository::PublishPack(const std::string& temporary,
                               const Sha256& digest) const {
  const fs::path relative(PackPath(digest));
  if (auto s = MakeFolders(folder_, relative.parent_path()); !s) return s;
  const std::string path = pack_path(digest);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, "rename to " + path);
  }
  return SyncDirectory(fs::path(path).parent_path());
}

Status Repository::PublishManifest(const std::string& name,
                                   const std::string& version,
                                   std::span<const std::byte> file) const {
  const fs::path relative = fs::path("images") / name / version;
  if (auto s = MakeFolders(folder_, relative); !s) return s;
  return WriteFileDurably(manifest_path(name, version), file, 0644,
                          IfExists::kFail);
}

Status Repository::PublishLatest(const std::string& name,
                                 std::span<const std::byte> file) const {
  return WriteFileDurably(latest_path(name), file, 0644, IfExists::kReplace);
}

}  // namespace bootstream
