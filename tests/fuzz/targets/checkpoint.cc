// The checkpoint: the whole map as one byte string.

#include "blockmap/map/checkpoint.h"

#include "tests/fuzz/fuzz.h"
#include "tests/support/map_fixture.h"

namespace bootstream {

FUZZ_TARGET(checkpoint) {
  constexpr uint32_t kChunk = kChunkBytesMin;
  const MapLimits limits{Grid{kChunk, 1000 * kChunk + kBlockBytes},
                         Grid{kChunk, 2000 * kChunk + 512}};
  const auto contents = DecodeCheckpoint(input, limits);
  if (!contents) return;
  Require(CheckRegion(contents->region, limits).has_value(),
          "the region keeps to its rules");
  const auto bytes = EncodeCheckpoint(contents->map, contents->region);
  const auto again = DecodeCheckpoint(bytes, limits);
  Require(again && again->region == contents->region &&
              Describe(again->map) == Describe(contents->map),
          "written and read again it is the same map");
}

}  // namespace bootstream
