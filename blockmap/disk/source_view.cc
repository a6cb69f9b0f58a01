#include "blockmap/disk/source_view.h"

namespace bootstream {

Task<Status> SourceView::ReadInside(uint64_t chunk, uint64_t offset,
                                    std::span<std::byte> out) {
  const DiskChunk source{chunk};
  const DiskChunk now = map_.Relocated(source).value_or(source);
  co_return co_await device_.Read(grid().offset_of(now.value) + offset, out);
}

}  // namespace bootstream
