#include "initramfs/driver/boot_view.h"

#include <set>
#include <utility>

namespace bootstream {
namespace {

// The blocks of a chunk that `size` bytes from byte `offset` of it touch.
uint64_t BlocksTouched(uint64_t offset, uint64_t size) {
  uint64_t blocks = 0;
  for (uint64_t at = offset / kBlockBytes; at * kBlockBytes < offset + size;
       ++at) {
    blocks |= uint64_t{1} << at;
  }
  return blocks;
}

}  // namespace

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
    const uint64_t blocks = BlocksTouched(offset, out.size());
    if (auto s = co_await BringOne(ImageChunk{chunk}, blocks); !s) co_return s;
  }
  co_return co_await disk_.Read(grid().offset_of(chunk) + offset, out);
}

// What has been written there is at home without the rest of its chunk.
Task<Status> BootView::BringOne(ImageChunk chunk, uint64_t blocks) {
  if (engine_.IsHomeToStay(chunk, blocks)) co_return OkStatus();
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

Task<Status> BootView::BringPatched() {
  std::set<ImageChunk> chunks;
  engine_.store().map().ForEachPatch([&](ImageChunk chunk, const Patch&) {
    if (engine_.manifest().IsPinned(chunk)) chunks.insert(chunk);
  });
  Status first = OkStatus();
  for (const ImageChunk chunk : chunks) {
    Status status = co_await BringOne(chunk, grid().full_mask(chunk.value));
    if (!status && first) first = std::move(status);
  }
  co_return first;
}

}  // namespace bootstream
