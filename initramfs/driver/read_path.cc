#include <bit>
#include <cstring>

#include "initramfs/driver/engine.h"

namespace bootstream {
namespace {

bool Direct(uint64_t offset, std::span<const std::byte> data) {
  return offset % kSectorBytes == 0 && data.size() % kSectorBytes == 0 &&
         reinterpret_cast<uintptr_t>(data.data()) % kSectorBytes == 0;
}

}  // namespace

void StreamEngine::NoteRead(uint64_t offset, uint64_t size) {
  if (size == 0) return;
  const uint64_t first = offset / grid_.chunk_bytes;
  const uint64_t last = (offset + size - 1) / grid_.chunk_bytes;
  if (recovery_set_.is_open()) KeepRead(first, last);
  if (first_reads_.Knows(first, last)) return;
  first_reads_.Add(first, last, executor_.Now());
}

// Before the read itself is looked at: neighbours become one request.
void StreamEngine::FetchAhead(uint64_t offset, uint64_t size) {
  const bool pointless = size == 0 || options_.read_only || guesses_off_ ||
                         flights_.size() >= kFlightsMax ||
                         unstored_bytes_ > options_.unstored_bytes_max ||
                         store_.superblock().phase >= Phase::kComplete;
  if (pointless) return;
  const uint64_t first = offset / grid_.chunk_bytes;
  const uint64_t last = (offset + size - 1) / grid_.chunk_bytes;
  const bool missed =
      IsMissing(ImageChunk{first}) || IsMissing(ImageChunk{last});
  const auto ahead = read_ahead_.Note(first, last, missed);
  // A full region would have each of them fetched and thrown away.
  if (!ahead || store_.region().plain_available_count(false) == 0) return;
  const uint64_t end =
      std::min(ahead->first + ahead->count, grid_.chunk_count());
  for (uint64_t number = ahead->first; number < end; ++number) {
    const ImageChunk chunk{number};
    if (IsMissing(chunk)) (void)StartFlight(chunk, FetchClass::kReadAhead);
  }
}

Task<Status> StreamEngine::ReadPiece(Piece piece, std::span<std::byte> out) {
  const uint64_t wanted = BlocksOf(piece);
  std::shared_ptr<Flight> flight;
  ChunkLocks::Guard guard = co_await locks_.Shared(piece.chunk);
  ChunkState state = store_.map().Get(piece.chunk);
  if ((MissingBlocks(piece.chunk, state) & wanted) != 0) {
    guard.Release();
    ++statistics_.demand_misses;
    flight = StartFlight(piece.chunk, FetchClass::kDemand);
    // Not for its way to the disk, unless the disk is far behind.
    const bool behind = unstored_bytes_ > options_.unstored_bytes_max;
    co_await (behind ? flight->done : flight->arrived);
    if (flight->failed) co_return flight->status;
    guard = co_await locks_.Shared(piece.chunk);
    state = store_.map().Get(piece.chunk);
    // What is clean is in memory, whether it has been stored or not.
    state.valid &= state.dirty;
  }
  const bool local = state.location.on_disk() && (wanted & ~state.valid) == 0;
  Status status = OkStatus();
  if (local && Direct(piece.begin, out)) {
    const auto mark = at_disk_.Begin();
    status = co_await device_.Read(
        DiskOffset(state.location.chunk()) + piece.begin, out);
  } else {
    status = co_await ReadLocal(piece, state, flight.get(), out);
  }
  if (status) co_return status;
  const bool lost = co_await IsLost(piece.chunk, state, wanted & state.valid);
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
  std::span<const std::byte> content;
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
      if (content.empty()) {
        content = Merged(piece.chunk, missing, *flight, merged);
      }
      std::memcpy(part.data(), content.data() + at, part.size());
    }
    at = stop;
  }
  co_return OkStatus();
}

Task<Status> StreamEngine::ReadDisk(uint64_t offset, std::span<std::byte> out) {
  const auto mark = at_disk_.Begin();
  if (Direct(offset, out)) co_return co_await device_.Read(offset, out);
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

// After a read of `blocks` that failed: whether only the disk has some that
// cannot be read.
Task<bool> StreamEngine::IsLost(ImageChunk chunk, const ChunkState& state,
                                uint64_t blocks) {
  if (IsTruth(chunk, state)) co_return true;
  const uint64_t dirty = blocks & state.dirty;
  if (dirty == 0) co_return false;
  if (dirty == blocks) co_return true;
  AlignedBuffer content(grid_.bytes_of(chunk.value));
  const Status s =
      co_await ReadBlocks(state.location.chunk(), dirty, content.span());
  co_return !s.has_value();
}

}  // namespace bootstream
