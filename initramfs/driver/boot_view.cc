#include "initramfs/driver/boot_view.h"

#include <utility>
#include <vector>

namespace bootstream {

BootView::BootView(Executor& executor, BlockDevice& disk, StreamEngine& engine)
    : ReadOnlyDevice(engine.manifest().grid()),
      executor_(executor),
      disk_(disk),
      engine_(engine) {}

BootView::~BootView() { *alive_ = false; }

void BootView::Look() {
  ++order_;
  GiveUp();
  brings_ = late_ = false;
  brought_ = 0;
}

void BootView::Bring(std::chrono::milliseconds patience) {
  brings_ = patient_ = true;
  brought_ = 0;
  late_ = false;
  const uint64_t order = ++order_;
  executor_.PostAfter(patience, [this, order, alive = alive_] {
    if (*alive && order == order_) GiveUp();
  });
}

void BootView::GiveUp() {
  patient_ = false;
  for (const auto& arrival : std::exchange(waiting_, {})) {
    arrival->over.Set();
  }
}

Status BootView::TooLate(ImageChunk chunk) {
  late_ = true;
  return Error{ErrorCode::kUnavailable,
               "image chunk " + std::to_string(chunk.value) +
                   " did not come from the server in time"};
}

Task<Status> BootView::ReadInside(uint64_t chunk, uint64_t offset,
                                  std::span<std::byte> out) {
  if (brings_) {
    if (auto s = co_await BringOne(ImageChunk{chunk}); !s) co_return s;
  }
  co_return co_await disk_.Read(grid().offset_of(chunk) + offset, out);
}

Task<Status> BootView::BringOne(ImageChunk chunk) {
  if (engine_.IsHomeToStay(chunk)) co_return OkStatus();
  if (!patient_) co_return TooLate(chunk);
  auto arrival = std::make_shared<Arrival>();
  waiting_.insert(arrival);
  Spawn(Fetch(chunk, arrival));
  co_await arrival->over;
  if (!arrival->status) co_return TooLate(chunk);
  co_return *arrival->status;
}

Task<void> BootView::Fetch(ImageChunk chunk, std::shared_ptr<Arrival> arrival) {
  const auto alive = alive_;
  Status status = co_await engine_.BringHome(chunk);
  // Nobody waits any more.
  if (!*alive || waiting_.erase(arrival) == 0) co_return;
  brought_ += status.has_value();
  arrival->status = std::move(status);
  arrival->over.Set();
}

Task<Status> BootView::BringWritten() {
  std::vector<ImageChunk> chunks;
  engine_.store().map().ForEach(
      [&](ImageChunk chunk, const ChunkState& state) {
        const bool written = state.dirty != 0 ||
                             !engine_.store().map().PatchesOf(chunk).empty();
        if (written && engine_.manifest().IsPinned(chunk)) {
          chunks.push_back(chunk);
        }
      });
  Status first = OkStatus();
  for (const ImageChunk chunk : chunks) {
    Status status = co_await BringOne(chunk);
    if (!status && first) first = std::move(status);
  }
  co_return first;
}

}  // namespace bootstream
