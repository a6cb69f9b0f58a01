#include <bit>
#include <cstring>

#include "initramfs/driver/engine.h"

namespace bootstream {
namespace {

bool Aligned(const std::byte* data) {
  return reinterpret_cast<uintptr_t>(data) % kSectorBytes == 0;
}


}  // namespace

Task<Status> StreamEngine::ReadPiece(Piece piece, std::span<std::byte> out) {
  const uint64_t wanted = BlocksOf(piece);
  std::shared_ptr<Flight> flight;
  ChunkLocks::Guard guard = co_await locks_.Shared(piece.chunk);
  ChunkState state = store_.map().Get(piece.chunk);
  if ((MissingBlocks(piece.chunk, state) & wanted) != 0) {
    guard.Release();
    ++statistics_.demand_misses;
    flight = StartFlight(piece.chunk, FetchClass::kDemand);
    co_await flight->done;
    if (flight->failed) co_return flight->status;
    // What could not be stored is answered from the download itself.
    guard = co_await locks_.Shared(piece.chunk);
    state = store_.map().Get(piece.chunk);
  }
  Status status = co_await ReadLocal(piece, state, flight.get(), out);
  if (status) co_return status;
  const bool lost = co_await IsLost(piece.chunk, state, wanted);
  if (lost) co_return Fail(piece.chunk, state, "read", std::move(status));
  guard.Release();
  co_return co_await ReadHealed(piece, wanted, std::move(status), out);
}

// Blocks come from the disk where they are valid, from `flight` where they are
// missing, and are zero otherwise; runs of one kind at a time.
Task<Status> StreamEngine::ReadLocal(Piece piece, const ChunkState& state,
                                     const Flight* flight,
                                     std::span<std::byte> out) {
  const uint64_t missing = MissingBlocks(piece.chunk, state);
  const uint64_t on_disk = state.location.on_disk() ? state.valid : 0;
  const auto kind_of = [&](uint32_t block) {
    const uint64_t bit = uint64_t{1} << block;
    return (on_disk & bit) != 0 ? 2 : (missing & bit) != 0 ? 1 : 0;
  };
  AlignedBuffer merged;
  for (uint32_t at = piece.begin; at < piece.end;) {
    const int kind = kind_of(at / kBlockBytes);
    uint32_t stop = at;
    while (stop < piece.end && kind_of(stop / kBlockBytes) == kind) {
      stop = std::min(piece.end, (stop / kBlockBytes + 1) * kBlockBytes);
    }
    const auto part = out.subspan(at - piece.begin, stop - at);
    if (kind == 2) {
      const uint64_t from = DiskOffset(state.location.chunk()) + at;
      if (auto s = co_await ReadDisk(from, part); !s) co_return s;
    } else if (kind == 0) {
      std::memset(part.data(), 0, part.size());
    } else {
      if (flight == nullptr) {
        co_return Error{ErrorCode::kIo, "a block went missing under a read"};
      }
      if (merged.size() == 0) {
        merged = AlignedBuffer(flight->content.size());
        std::memcpy(merged.data(), flight->content.data(), merged.size());
        store_.map().Merge(piece.chunk, missing, merged.span());
      }
      std::memcpy(part.data(), merged.data() + at, part.size());
    }
    at = stop;
  }
  co_return OkStatus();
}

Task<Status> StreamEngine::ReadDisk(uint64_t offset, std::span<std::byte> out) {
  const bool direct = offset % kSectorBytes == 0 &&
                      out.size() % kSectorBytes == 0 && Aligned(out.data());
  if (direct) co_return co_await device_.Read(offset, out);
  const uint64_t start = offset / kSectorBytes * kSectorBytes;
  const uint64_t end =
      (offset + out.size() + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  AlignedBuffer bounce(end - start);
  if (auto s = co_await device_.Read(start, bounce.span()); !s) co_return s;
  std::memcpy(out.data(), bounce.data() + (offset - start), out.size());
  co_return OkStatus();
}

// The valid `blocks` of the chunk in `place`; the rest of `content` is left.
Task<Status> StreamEngine::ReadBlocks(DiskChunk place, uint64_t blocks,
                                      std::span<std::byte> content) {
  while (blocks != 0) {
    const int first = std::countr_zero(blocks);
    const int count = std::countr_one(blocks >> first);
    const uint64_t begin = uint64_t{kBlockBytes} * first;
    const auto part = content.subspan(begin, size_t{kBlockBytes} * count);
    auto s = co_await device_.Read(DiskOffset(place) + begin, part);
    if (!s) co_return s;
    const int stop = first + count;
    blocks = stop == 64 ? 0 : blocks >> stop << stop;
  }
  co_return OkStatus();
}

// After a read that failed: whether it was for blocks that only the disk has.
Task<bool> StreamEngine::IsLost(ImageChunk chunk, const ChunkState& state,
                                uint64_t wanted) {
  if (IsTruth(chunk, state)) co_return true;
  const uint64_t dirty = wanted & state.dirty;
  if (dirty == 0) co_return false;
  if (dirty == wanted) co_return true;
  AlignedBuffer content(grid_.bytes_of(chunk.value));
  const Status s =
      co_await ReadBlocks(state.location.chunk(), dirty, content.span());
  co_return !s.has_value();
}

}  // namespace bootstream
