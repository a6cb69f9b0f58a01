#include "blockmap/disk/source_view.h"

namespace bootstream {

DiskChunk SourceView::PlaceOf(DiskChunk source) const {
  return map_.Relocated(source).value_or(source);
}

// While the disk reads, the chunk may be relocated and its old place given to
// somebody else.  One change that leaves it where it was is of another chunk;
// with two it may have gone and come back.
Task<Status> SourceView::ReadInside(uint64_t chunk, uint64_t offset,
                                    std::span<std::byte> out) {
  const DiskChunk source{chunk};
  for (;;) {
    const uint64_t before = map_.relocation_changes();
    const DiskChunk place = PlaceOf(source);
    Status status =
        co_await device_.Read(grid().offset_of(place.value) + offset, out);
    const uint64_t changes = map_.relocation_changes() - before;
    if (changes == 0) co_return status;
    if (changes == 1 && PlaceOf(source) == place) co_return status;
  }
}

}  // namespace bootstream
