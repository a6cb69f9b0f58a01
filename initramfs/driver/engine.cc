#include "initramfs/driver/engine.h"

#include <bit>
#include <utility>

namespace bootstream {

StreamEngine::StreamEngine(Executor& executor, BlockDevice& device,
                           MapStore& store, ChunkSource& source,
                           std::shared_ptr<const Manifest> manifest,
                           Options options)
    : executor_(executor),
      device_(device),
      store_(store),
      source_(source),
      manifest_(std::move(manifest)),
      options_(std::move(options)),
      grid_(manifest_->grid()),
      room_(executor),
      read_ahead_(options_.read_ahead_bytes / grid_.chunk_bytes),
      first_reads_(grid_.chunk_count(), executor_.Now()),
      alive_(std::make_shared<bool>(true)) {}

StreamEngine::~StreamEngine() { *alive_ = false; }

Task<Status> StreamEngine::GiveUpSource() {
  const auto guard = co_await source_mutex_.Lock();
  Status status = co_await store_.GiveUpSource();
  if (status) room_.RoomMade();
  co_return status;
}

uint64_t StreamEngine::BlocksOf(const Piece& piece) const {
  const uint32_t first = piece.begin / kBlockBytes;
  const uint32_t last = (piece.end - 1) / kBlockBytes;
  const uint32_t count = last - first + 1;
  const uint64_t mask = count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
  return mask << first;
}

uint64_t StreamEngine::CoveredBlocksOf(const Piece& piece) const {
  uint64_t mask = BlocksOf(piece);
  if (piece.begin % kBlockBytes != 0) {
    mask &= ~(uint64_t{1} << (piece.begin / kBlockBytes));
  }
  if (piece.end % kBlockBytes != 0) {
    mask &= ~(uint64_t{1} << (piece.end / kBlockBytes));
  }
  return mask;
}

uint64_t StreamEngine::MissingBlocks(ImageChunk chunk,
                                     const ChunkState& state) const {
  if (state.location.is_zero() || manifest_->IsZero(chunk)) return 0;
  return grid_.full_mask(chunk.value) & ~state.valid;
}

bool StreamEngine::IsMissing(ImageChunk chunk) const {
  return MissingBlocks(chunk, store_.map().Get(chunk)) != 0;
}

// The piece that is all of a request, if it lies in one chunk.
std::optional<StreamEngine::Piece> StreamEngine::OnlyPiece(
    uint64_t offset, uint64_t size) const {
  const uint64_t begin = offset % grid_.chunk_bytes;
  if (size == 0 || size > grid_.chunk_bytes - begin) return std::nullopt;
  return Piece{ImageChunk{offset / grid_.chunk_bytes},
               static_cast<uint32_t>(begin),
               static_cast<uint32_t>(begin + size)};
}

Task<Status> StreamEngine::Read(uint64_t offset, std::span<std::byte> out) {
  ++statistics_.reads;
  NoteRead(offset, out.size());
  if (options_.read_ahead_bytes != 0) FetchAhead(offset, out.size());
  const auto piece = OnlyPiece(offset, out.size());
  return piece ? ReadPiece(*piece, out) : ReadPieces(offset, out);
}

Task<Status> StreamEngine::ReadPieces(uint64_t offset,
                                      std::span<std::byte> out) {
  std::vector<Task<Status>> pieces;
  ForEachPiece(offset, out.size(), [&](Piece piece, uint64_t at) {
    pieces.push_back(
        ReadPiece(piece, out.subspan(at, piece.end - piece.begin)));
  });
  co_return co_await JoinAll(std::move(pieces));
}

Task<Status> StreamEngine::Write(uint64_t offset,
                                 std::span<const std::byte> data, bool fua) {
  ++statistics_.writes;
  const auto piece = OnlyPiece(offset, data.size());
  if (piece && !fua && !options_.read_only) return WriteAnywhere(*piece, data);
  return WritePieces(offset, data, fua);
}

Task<Status> StreamEngine::WritePieces(uint64_t offset,
                                       std::span<const std::byte> data,
                                       bool fua) {
  if (options_.read_only) {
    co_return Error{ErrorCode::kRefused, "the device is read-only"};
  }
  std::vector<Task<Status>> pieces;
  ForEachPiece(offset, data.size(), [&](Piece piece, uint64_t at) {
    pieces.push_back(
        WriteAnywhere(piece, data.subspan(at, piece.end - piece.begin)));
  });
  Status status = co_await JoinAll(std::move(pieces));
  if (status && fua) status = co_await Flush();
  co_return status;
}

Task<Status> StreamEngine::Flush() {
  if (options_.read_only) co_return OkStatus();
  co_return co_await store_.Commit();
}

Task<Status> StreamEngine::Drain() {
  while (!flights_.empty()) {
    auto flight = flights_.begin()->second;
    co_await flight->done;
    co_await executor_.Yield();
  }
  co_await in_background_.Ended();
  co_await executor_.Yield();
  co_return co_await Flush();
}

void StreamEngine::CommitSoon() {
  if (commit_scheduled_) return;
  commit_scheduled_ = true;
  executor_.PostAfter(options_.commit_delay, [this, alive = alive_] {
    if (*alive) Spawn(RunLazyCommit());
  });
}

Task<void> StreamEngine::RunLazyCommit() {
  const auto mark = in_background_.Begin();
  commit_scheduled_ = false;
  if (!store_.has_changes()) co_return;
  // A failure is told to whoever flushes next: the store stays failed.
  (void)co_await store_.Commit();
}

Task<Status> StreamEngine::Discard(uint64_t offset, uint64_t size) {
  if (options_.read_only || size == 0) co_return OkStatus();
  std::vector<Task<Status>> pieces;
  ForEachPiece(offset, size, [&](Piece piece, uint64_t) {
    const bool whole =
        piece.begin == 0 && piece.end == grid_.bytes_of(piece.chunk.value);
    if (whole && !goes_home(piece.chunk)) {
      pieces.push_back(ForgetContent(piece.chunk));
    }
  });
  co_return co_await JoinAll(std::move(pieces));
}

Task<Status> StreamEngine::WriteZeroes(uint64_t offset, uint64_t size,
                                       bool fua) {
  if (options_.read_only) {
    co_return Error{ErrorCode::kRefused, "the device is read-only"};
  }
  std::vector<Piece> pieces;
  ForEachPiece(offset, size,
               [&](Piece piece, uint64_t) { pieces.push_back(piece); });
  for (const Piece& piece : pieces) {
    if (auto s = co_await ZeroPiece(piece); !s) co_return s;
  }
  if (fua) co_return co_await Flush();
  co_return OkStatus();
}

}  // namespace bootstream
