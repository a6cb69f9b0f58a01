// Superblock, anchor, stub, chain header and tag of a region file: as they
// come, and with the checksum made right.

#include "blockmap/map/superblock.h"

#include <algorithm>

#include "blockmap/disk/region_tag.h"
#include "blockmap/map/chain.h"
#include "blockmap/map/sealed.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {
namespace {

constexpr size_t kAnchorSlot = 2048;
constexpr size_t kStubSealedAt = 256;
constexpr size_t kStubSealedBytes = 184;

void TrySuperblock(std::span<const std::byte> block) {
  const auto superblock = DecodeSuperblock(block);
  if (!superblock) return;
  Require(PhaseName(superblock->phase) != "unknown", "the phase is known");
  const auto again = EncodeSuperblock(*superblock);
  Require(again && std::ranges::equal(*again, block),
          "a superblock is written as it was read");
}

void TryAnchor(std::span<const std::byte> candidate) {
  const auto anchor = DecodeAnchor(candidate);
  if (!anchor) return;
  const auto sector = EncodeAnchor(*anchor);
  Require(std::ranges::equal(sector, candidate.first(kSectorBytes)) ||
              std::ranges::equal(sector,
                                 candidate.subspan(kAnchorSlot, kSectorBytes)),
          "an anchor is written as it was read");
}

void TryStub(std::span<const std::byte> sector) {
  const auto stub = DecodeStub(sector);
  if (!stub) return;
  const auto again = DecodeStub(EncodeStub(*stub));
  Require(again && EncodeStub(*again) == EncodeStub(*stub),
          "a stub is written as it was read");
}

void TryChainHeader(std::span<const std::byte> block) {
  const auto header = DecodeChainHeader(block);
  if (!header) return;
  Require(std::ranges::equal(EncodeChainHeader(*header), block),
          "a chain header is written as it was read");
}

void TryRegionTag(std::span<const std::byte> bytes) {
  const auto tag = DecodeRegionTag(bytes);
  if (!tag) return;
  Require(std::ranges::equal(EncodeRegionTag(*tag), bytes),
          "a region file's tag is written as it was read");
}

}  // namespace

FUZZ_TARGET(superblock) {
  std::array<std::byte, kBlockBytes> block{};
  std::copy_n(input.begin(), std::min(input.size(), block.size()),
              block.begin());
  TrySuperblock(block);
  TryAnchor(block);
  TryStub(std::span(block).first(kSectorBytes));
  TryChainHeader(block);
  TryRegionTag(input);

  auto sealed = block;
  Seal(sealed);
  TrySuperblock(sealed);
  TryChainHeader(sealed);
  sealed = block;
  Seal(std::span(sealed).first(kSectorBytes));
  Seal(std::span(sealed).subspan(kAnchorSlot, kSectorBytes));
  TryAnchor(sealed);
  sealed = block;
  Seal(std::span(sealed).subspan(kStubSealedAt, kStubSealedBytes));
  TryStub(std::span(sealed).first(kSectorBytes));
  sealed = block;
  Seal(std::span(sealed).first(kRegionTagBytes));
  TryRegionTag(std::span(sealed).first(kRegionTagBytes));
}

}  // namespace bootstream
