#include "tests/support/fake_image.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "blockmap/image/pack.h"

namespace bootstream {
namespace {

[[noreturn]] void Give(const Error& error) {
  std::fprintf(stderr, "fake image: %s\n", error.message.c_str());
  std::abort();
}

void AddChunk(uint64_t chunk, const ChunkEntry& entry,
              ManifestContent& content) {
  auto& runs = content.runs;
  if (runs.empty() || runs.back().first + runs.back().count != chunk) {
    runs.push_back(ChunkRun{chunk, 0, content.chunks.size()});
  }
  ++runs.back().count;
  content.chunks.push_back(entry);
}

}  // namespace

std::vector<std::byte> RandomBytes(uint64_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> out(size);
  for (size_t at = 0; at < out.size(); at += 8) {
    const uint64_t value = random();
    std::memcpy(out.data() + at, &value, std::min<size_t>(8, size - at));
  }
  return out;
}

ManifestContent DescribeImage(std::span<const std::byte> image,
                              uint32_t chunk_bytes,
                              std::vector<std::byte>* pack) {
  ManifestContent content;
  content.name = "test";
  content.version = "1.2";
  content.image_bytes = image.size();
  content.chunk_bytes = chunk_bytes;
  const Grid grid{chunk_bytes, image.size()};
  FrameEncoder encoder(1);
  uint64_t pack_bytes = 0;
  for (uint64_t chunk = 0; chunk < grid.chunk_count(); ++chunk) {
    const auto bytes =
        image.subspan(grid.offset_of(chunk), grid.bytes_of(chunk));
    if (std::all_of(bytes.begin(), bytes.end(),
                    [](std::byte b) { return b == std::byte{0}; })) {
      continue;
    }
    ChunkEntry entry{Sha256Of(bytes), 0, grid.bytes_of(chunk), pack_bytes};
    if (pack != nullptr) {
      const auto frame = encoder.Encode(bytes);
      if (!frame) Give(frame.error());
      entry.packed_bytes = static_cast<uint32_t>(frame->size());
      pack->insert(pack->end(), frame->begin(), frame->end());
    }
    pack_bytes += entry.packed_bytes;
    AddChunk(chunk, entry, content);
  }
  if (pack_bytes > 0) {
    const Sha256 digest = pack != nullptr ? Sha256Of(*pack) : Sha256{};
    content.packs.push_back(PackEntry{digest, pack_bytes});
  }
  content.boot_set = {{0, 1}};
  content.tables = {{0, kSectorBytes}};
  return content;
}

Manifest SignAndOpen(const ManifestContent& content,
                     std::vector<std::byte>* file) {
  const auto key = PrivateKey::Generate();
  if (!key) Give(key.error());
  const PrivateKey* const signer = &*key;
  auto bytes = Manifest::Encode(content, {&signer, 1});
  if (!bytes) Give(bytes.error());
  TrustedKeys trusted;
  auto public_key = key->public_key();
  if (!public_key) Give(public_key.error());
  trusted.Add(std::move(*public_key));
  auto manifest = Manifest::Open(*bytes, trusted);
  if (!manifest) Give(manifest.error());
  if (file != nullptr) *file = std::move(*bytes);
  return std::move(*manifest);
}

}  // namespace bootstream
