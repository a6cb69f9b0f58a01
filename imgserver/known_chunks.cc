#include "imgserver/known_chunks.h"

#include <cstring>
#include <optional>

namespace bootstream {

size_t DigestHash::operator()(const Sha256& digest) const noexcept {
  size_t value = 0;
  std::memcpy(&value, digest.data(), sizeof value);
  return value;
}

Result<KnownChunks> KnownChunks::Read(const Repository& repository,
                                      const TrustedKeys& keys,
                                      std::vector<std::string>& warnings) {
  const auto versions = repository.Versions();
  if (!versions) return versions.error();
  KnownChunks known;
  for (const auto& version : *versions) {
    const auto manifest = Repository::Load(version, &keys);
    if (manifest) {
      known.Add(repository, *manifest);
    } else {
      warnings.push_back(manifest.error().message +
                         "; its chunks are not used");
    }
  }
  return known;
}

void KnownChunks::Add(const Repository& repository, const Manifest& manifest) {
  std::vector<std::optional<uint32_t>> index;  // by the manifest's pack number
  for (const PackEntry& pack : manifest.content().packs) {
    const auto found = pack_index_.find(pack.digest);
    if (found != pack_index_.end()) {
      index.emplace_back(found->second);
    } else if (repository.HasPack(pack)) {
      index.emplace_back(static_cast<uint32_t>(packs_.size()));
      pack_index_.emplace(pack.digest, *index.back());
      packs_.push_back(pack);
    } else {
      index.emplace_back(std::nullopt);
    }
  }
  for (const ChunkEntry& entry : manifest.content().chunks) {
    if (!index[entry.pack]) continue;
    places_.try_emplace(
        entry.digest,
        Place{*index[entry.pack], entry.packed_bytes, entry.pack_offset});
  }
}

const KnownChunks::Place* KnownChunks::Find(const Sha256& digest) const {
  const auto found = places_.find(digest);
  return found == places_.end() ? nullptr : &found->second;
}

}  // namespace bootstream
