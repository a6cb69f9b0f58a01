#include <array>
#include <cstring>
#include <utility>

#include "initramfs/driver/engine.h"

namespace bootstream {
namespace {

// Room for what all writes under way may add.
constexpr uint64_t kPatchRoomLowBytes = uint64_t{32} << 10;

bool SectorAligned(uint64_t offset, std::span<const std::byte> data) {
  return offset % kSectorBytes == 0 && data.size() % kSectorBytes == 0;
}

bool IsFull(const Status& status) {
  return !status && status.error().code == ErrorCode::kNoSpace;
}

uint64_t BitOf(uint32_t byte) { return uint64_t{1} << (byte / kBlockBytes); }

}  // namespace

Task<Status> StreamEngine::WriteAnywhere(Piece piece,
                                         std::span<const std::byte> data) {
  const bool head = piece.chunk.value == 0 && piece.begin < kTableHeadBytes &&
                    store_.superblock().anchor_offset != kNone;
  Status status = OkStatus();
  if (head) {
    status = co_await WriteTableHead(piece, data);
  } else {
    status = co_await WritePiece(piece, data);
  }
  if (!status && status.error().code == ErrorCode::kIo) {
    co_return Fail(piece.chunk, store_.map().Get(piece.chunk), "written",
                   std::move(status));
  }
  co_return status;
}

// The anchor says which partition tables belong to it.  If this write changes
// the table's id, the anchor follows before it is on the disk.
Task<Status> StreamEngine::WriteTableHead(Piece piece,
                                          std::span<const std::byte> data) {
  const AsyncSharedMutex::Guard guard = co_await table_mutex_.Lock();
  AlignedBuffer head(kTableHeadBytes);
  const Piece all{ImageChunk{0}, 0, kTableHeadBytes};
  if (auto s = co_await ReadPiece(all, head.span()); !s) co_return s;
  const size_t size =
      std::min<size_t>(data.size(), kTableHeadBytes - piece.begin);
  std::memcpy(head.data() + piece.begin, data.data(), size);
  const TableId id = TableIdOf(head.span());
  if (id != store_.superblock().target_table_id) {
    if (auto s = co_await store_.ChangeTargetTable(id); !s) co_return s;
  }
  co_return co_await WritePiece(piece, data);
}

// What is dirty already is overwritten in place under the shared lock; all else
// changes the chunk's state first.
Task<Status> StreamEngine::WritePiece(Piece piece,
                                      std::span<const std::byte> data) {
  const uint64_t touched = BlocksOf(piece);
  {
    ChunkLocks::Guard guard = co_await locks_.Shared(piece.chunk);
    const ChunkState state = store_.map().Get(piece.chunk);
    const bool settled =
        state.location.on_disk() && (touched & ~state.valid) == 0 &&
        (touched & ~state.dirty) == 0 && SectorAligned(piece.begin, data) &&
        (!goes_home(piece.chunk) ||
         state.location == Location::At(HomeOf(piece.chunk)));
    if (settled) {
      co_return co_await WriteDisk(
          DiskOffset(state.location.chunk()) + piece.begin, data);
    }
  }
  co_return co_await WriteExclusive(piece, data);
}

Task<Status> StreamEngine::WriteExclusive(Piece piece,
                                          std::span<const std::byte> data) {
  // A home that cannot be had is no reason to refuse what may lie elsewhere.
  bool stays_away = false;
  std::optional<RoomQueue::Turn> turn;  // no lock is held while it waits
  for (;;) {
    const bool pinned = manifest_->IsPinned(piece.chunk);
    const bool goes_home = pinned || (going_home_ && !stays_away);
    const Location home = Location::At(HomeOf(piece.chunk));
    if (goes_home && store_.map().Get(piece.chunk).location != home) {
      const Status s = co_await MakeHome(piece.chunk);
      if (IsFull(s) && pinned) {
        if (auto w = co_await AwaitRoom(turn); !w) co_return w;
        continue;
      }
      if (!s && pinned) co_return s;
      if (!s) {
        stays_away = true;
        continue;
      }
    }
    ChunkLocks::Guard guard = co_await locks_.Exclusive(piece.chunk);
    ChunkState state = store_.map().Get(piece.chunk);
    if (goes_home && state.location != home) continue;
    if (stays_away) {
      const auto s = co_await store_.Unsettle(HomeOf(piece.chunk));
      if (!s) co_return s;
    }
    const uint64_t edges = BlocksOf(piece) & ~CoveredBlocksOf(piece);
    if ((edges & MissingBlocks(piece.chunk, state)) != 0 &&
        store_.patch_room_bytes() < kPatchRoomLowBytes) {
      // Patches are bounded: from here on such a write waits for its base.
      guard.Release();
      auto s = co_await Hydrate(piece.chunk, FetchClass::kDemand);
      if (IsFull(s)) s = co_await AwaitRoom(turn);
      if (!s) co_return s;
      continue;
    }
    const auto placed = co_await TakePlace(piece, state);
    if (!placed) co_return placed.error();
    if (!*placed) {
      guard.Release();
      if (auto s = co_await AwaitRoom(turn); !s) co_return s;
      continue;
    }
    turn.reset();
    if (auto s = co_await Intend(piece, state); !s) co_return s;
    co_return co_await Overwrite(piece, state, data);
  }
}

// After a write that has found no room and has changed nothing.  What others
// have left is free once that is durable, so the first thing is a commit.
Task<Status> StreamEngine::AwaitRoom(std::optional<RoomQueue::Turn>& turn) {
  if (!turn) turn.emplace(room_);
  if (turn->FirstLook()) co_return co_await store_.Commit();
  const bool again = co_await turn->Wait();
  if (again) co_return OkStatus();
  co_return Error{ErrorCode::kNoSpace, "the region is full"};
}

// A place for the chunk; `state` is what Intend and Overwrite go on from.
// False: there is none, and nothing has changed.
Task<Result<bool>> StreamEngine::TakePlace(const Piece& piece,
                                           ChunkState& state) {
  if (state.location.on_disk()) co_return true;
  const bool zero = state.location.is_zero();
  const auto place = co_await PlaceFor(piece.chunk, true);
  if (!place) co_return false;
  if (zero) {
    if (auto s = co_await FillZeroes(*place, piece.chunk); !s) {
      store_.Release(*place);
      Quarantine(*place);
      co_return s.error();
    }
  }
  const uint64_t all = zero ? grid_.full_mask(piece.chunk.value) : 0;
  state = ChunkState{Location::At(*place), all, all};
  store_.SetChunk(piece.chunk, state);
  co_return true;
}

// Intents, durable, for what is clean and about to be overwritten.
Task<Status> StreamEngine::Intend(const Piece& piece, ChunkState& state) {
  const uint64_t intent = BlocksOf(piece) & state.valid & ~state.dirty;
  if (intent == 0) co_return OkStatus();
  state.dirty |= intent;
  store_.SetChunk(piece.chunk, state);
  ++statistics_.intents;
  co_return co_await store_.Commit();
}

Task<Status> StreamEngine::Overwrite(const Piece& piece, ChunkState state,
                                     std::span<const std::byte> data) {
  const uint64_t place = DiskOffset(state.location.chunk());
  const uint32_t middle = std::min(
      piece.end, (piece.begin + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
  const uint32_t tail = std::max(middle, piece.end / kBlockBytes * kBlockBytes);
  const auto part = [&](uint32_t begin, uint32_t end) {
    return data.subspan(begin - piece.begin, end - begin);
  };
  uint64_t fresh = CoveredBlocksOf(piece) & ~state.valid;
  const bool base_is_zero = manifest_->IsZero(piece.chunk);
  const std::array<std::pair<uint32_t, uint32_t>, 2> edges{
      {{piece.begin, middle}, {tail, piece.end}}};
  for (const auto& [begin, end] : edges) {
    if (begin == end) continue;
    const Status s =
        co_await WriteEdge(piece.chunk, state, begin, part(begin, end));
    if (!s) co_return s;
    if (base_is_zero) fresh |= BitOf(begin) & ~state.valid;
  }
  if (middle < tail) {
    const Status s = co_await WriteDisk(place + middle, part(middle, tail));
    if (!s) co_return s;
  }
  if (fresh != 0) {
    state.valid |= fresh;
    state.dirty |= fresh;
    store_.SetChunk(piece.chunk, state);
  }
  CommitSoon();
  co_return OkStatus();
}

// Part of one block.  Its base is on the disk, or zero, or has not arrived:
// then the write waits for it as a patch.
Task<Status> StreamEngine::WriteEdge(ImageChunk chunk, const ChunkState& state,
                                     uint32_t begin,
                                     std::span<const std::byte> data) {
  const bool valid = (state.valid & BitOf(begin)) != 0;
  if (!valid && !manifest_->IsZero(chunk)) {
    store_.AddPatch(chunk, Patch{begin, {data.begin(), data.end()}});
    ++statistics_.patches;
    co_return OkStatus();
  }
  const uint64_t place = DiskOffset(state.location.chunk());
  if (valid && SectorAligned(begin, data)) {
    co_return co_await WriteDisk(place + begin, data);
  }
  const uint32_t block = begin / kBlockBytes * kBlockBytes;
  AlignedBuffer whole(kBlockBytes);
  if (valid) {
    if (auto s = co_await device_.Read(place + block, whole.span()); !s) {
      co_return s;
    }
  }
  std::memcpy(whole.data() + (begin - block), data.data(), data.size());
  co_return co_await device_.Write(place + block, whole.span());
}

Task<Status> StreamEngine::WriteDisk(uint64_t offset,
                                     std::span<const std::byte> data) {
  const auto mark = at_disk_.Begin();
  if (reinterpret_cast<uintptr_t>(data.data()) % kSectorBytes == 0) {
    co_return co_await device_.Write(offset, data);
  }
  AlignedBuffer bounce(data.size());
  std::memcpy(bounce.data(), data.data(), data.size());
  co_return co_await device_.Write(offset, bounce.span());
}

Task<Status> StreamEngine::FillZeroes(DiskChunk place, ImageChunk chunk) {
  const AlignedBuffer zeroes(grid_.bytes_of(chunk.value));
  co_return co_await device_.Write(DiskOffset(place), zeroes.span());
}

Task<Status> StreamEngine::ZeroPiece(Piece piece) {
  const bool whole =
      piece.begin == 0 && piece.end == grid_.bytes_of(piece.chunk.value);
  if (whole && !goes_home(piece.chunk)) {
    co_return co_await ForgetContent(piece.chunk);
  }
  if (going_home_ && IsZeroAtHome(piece.chunk)) co_return OkStatus();
  const AlignedBuffer zeroes(piece.end - piece.begin);
  co_return co_await WriteAnywhere(piece, zeroes.span());
}

// The chunk is all zero from now on, and takes no place.
Task<Status> StreamEngine::ForgetContent(ImageChunk chunk) {
  ChunkLocks::Guard guard = co_await locks_.Exclusive(chunk);
  ChunkState zero;
  if (!manifest_->IsZero(chunk)) zero.location = Location::Zero();
  if (store_.map().Get(chunk) == zero) co_return OkStatus();
  store_.SetChunk(chunk, zero);
  CommitSoon();
  room_.RoomMade();
  co_return OkStatus();
}

}  // namespace bootstream
