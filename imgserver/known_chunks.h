#ifndef IMGSERVER_KNOWN_CHUNKS_H_
#define IMGSERVER_KNOWN_CHUNKS_H_

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "blockmap/image/manifest.h"
#include "imgserver/repository.h"

namespace bootstream {

// A digest is as good a hash as any.
struct DigestHash {
  size_t operator()(const Sha256& digest) const noexcept;
};

// The chunks that a repository holds, by digest: those that a manifest signed
// by a key of ours names, in packs that are there.  Any thread may look.
class KnownChunks {
 public:
  struct Place {
    uint32_t pack = 0;  // index into packs()
    uint32_t packed_bytes = 0;
    uint64_t pack_offset = 0;
  };

  // Of two places for one digest that of the manifest which comes first (by
  // name, then version) counts.  A sentence for each manifest that cannot be
  // used goes to `warnings`.
  static Result<KnownChunks> Read(const Repository& repository,
                                  const TrustedKeys& keys,
                                  std::vector<std::string>& warnings);

  const Place* Find(const Sha256& digest) const;
  const std::vector<PackEntry>& packs() const { return packs_; }

 private:
  void Add(const Repository& repository, const Manifest& manifest);
  std::vector<PackEntry> packs_;
  std::unordered_map<Sha256, uint32_t, DigestHash> pack_index_;
  std::unordered_map<Sha256, Place, DigestHash> places_;
};

}  // namespace bootstream

#endif  // IMGSERVER_KNOWN_CHUNKS_H_
