#include "tests/crash/stream_client.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

constexpr uint32_t kChunk = 64 * 1024;
constexpr uint64_t kTurnsMax = 1000000;

}  // namespace

std::string StreamClient::Run() {
  device_.Hold();
  session_.source().Hold();
  std::optional<Backfill> backfill;
  Backfill::Options backfill_options;
  backfill_options.parallel_fetches = 3;
  if (options_.backfills) {
    backfill.emplace(session_.executor(), session_.engine(), session_.store(),
                     backfill_options);
  }
  for (const uint64_t chunk : options_.read_first) {
    StartOn({}, Hydrate(chunk, FetchClass::kDemand));
  }
  const uint64_t backfill_at = Below(options_.operations);
  const uint64_t give_up_at = options_.gives_up_source
                                  ? Below(options_.operations)
                                  : options_.operations;
  for (uint64_t done = 0; done < options_.operations && wrong_.empty();) {
    if (under_way_ < options_.parallel && Below(3) == 0) {
      if (backfill && done == backfill_at) backfill->Start();
      if (done == give_up_at) StartGiveUp();
      StartAny();
      ++done;
    } else {
      Turn();
      GiveUpForRoom();
    }
  }
  if (backfill) Spawn(backfill->Stop());
  DrainAll();
  device_.LetGo();
  session_.executor().Advance(std::chrono::seconds(10));
  tally_["read-throughs"] = session_.engine().statistics().demand_misses;
  tally_["writes that waited for room"] = session_.engine().room().waited();
  return wrong_;
}

bool StreamClient::Turn() {
  const uint64_t kind = Below(8);
  if (kind < 5 && device_.Step(random_)) return true;
  const auto waiting = session_.source().waiting();
  if (kind < 7 && !waiting.empty()) {
    return session_.source().Complete(waiting[Below(waiting.size())]);
  }
  session_.executor().Advance(std::chrono::milliseconds(1 + Below(200)));
  return device_.Step(random_) || !waiting.empty();
}

void StreamClient::DrainAll() {
  bool drained = false;
  const auto drain = [](StreamClient& self, bool& done) -> Task<void> {
    const Status status = co_await self.session_.engine().Drain();
    self.Expect(status, "drain");
    done = true;
  };
  uint64_t turns = 0;
  while (under_way_ > 0 && ++turns < kTurnsMax) {
    Turn();
    GiveUpForRoom();
  }
  if (under_way_ > 0) Fail("a request never ends");
  session_.source().Release();
  Spawn(drain(*this, drained));
  // Backfill and lazy commits end, too: a while without anybody waiting.
  for (int idle = 0; idle < 100 && ++turns < kTurnsMax;) {
    idle = Turn() ? 0 : idle + 1;
  }
  if (!drained) Fail("drain never ends");
}

uint64_t StreamClient::AnyWrittenChunk() {
  return options_.written_chunks[Below(options_.written_chunks.size())];
}

StreamClient::Range StreamClient::AnyRange(uint64_t chunk) {
  const uint64_t size_bytes = session_.engine().size_bytes();
  static constexpr std::array<uint64_t, 4> kUnits{1, kSectorBytes, kBlockBytes,
                                                  kBlockBytes};
  const uint64_t unit = kUnits[Below(kUnits.size())];
  const uint64_t largest = Below(6) == 0 ? 20 * kBlockBytes : 3 * kBlockBytes;
  uint64_t begin = chunk * kChunk + Below(kChunk);
  uint64_t end = begin + 1 + Below(largest);
  begin = begin / unit * unit;
  end = (end + unit - 1) / unit * unit;
  // What follows a written chunk may be one that is not.
  end =
      std::min({end, (chunk + 1) * kChunk, size_bytes - options_.table_bytes});
  begin = std::max(begin, options_.table_bytes);
  if (begin >= end) return {options_.table_bytes, kBlockBytes};
  return {begin, end - begin};
}

StreamClient::Range StreamClient::WholeBlocks(Range range) const {
  const uint64_t begin = range.offset / kBlockBytes * kBlockBytes;
  const uint64_t end =
      (range.offset + range.size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  return {begin, end - begin};
}

bool StreamClient::IsBusy(Range range) const {
  const Range blocks = WholeBlocks(range);
  const auto first = busy_.lower_bound(blocks.offset / kBlockBytes);
  return first != busy_.end() &&
         *first < (blocks.offset + blocks.size) / kBlockBytes;
}

bool StreamClient::IsInBootSet(Range range) const {
  const Manifest& manifest = session_.engine().manifest();
  return manifest.InBootSet(ImageChunk{range.offset / kChunk}) &&
         !manifest.IsPinned(ImageChunk{range.offset / kChunk});
}

void StreamClient::StartOn(Range range, Task<void> task) {
  Spawn(Guarded(range, std::move(task)));
}

// Keeps others off the range's blocks while `task` runs.
Task<void> StreamClient::Guarded(Range range, Task<void> task) {
  const Range blocks = WholeBlocks(range);
  for (uint64_t at = 0; at < blocks.size; at += kBlockBytes) {
    busy_.insert((blocks.offset + at) / kBlockBytes);
  }
  ++under_way_;
  co_await task;
  --under_way_;
  for (uint64_t at = 0; at < blocks.size; at += kBlockBytes) {
    busy_.erase((blocks.offset + at) / kBlockBytes);
  }
}

void StreamClient::StartAny() {
  const uint64_t kind = Below(options_.moves_metadata ? 28 : 20);
  const uint64_t image_chunks =
      session_.engine().manifest().grid().chunk_count();
  const bool fua = Below(4) == 0;
  const Range written = AnyRange(AnyWrittenChunk());
  if (kind < 10 && IsBusy(written)) return;
  if (kind < 7) {
    StartOn(written, Write(written, fua));
  } else if (kind == 7) {
    if (!IsInBootSet(written)) StartOn(written, Zero(written, fua));
  } else if (kind < 10) {
    Range chunk{written.offset / kChunk * kChunk, kChunk};
    chunk.size = std::min<uint64_t>(
        kChunk, session_.engine().size_bytes() - chunk.offset);
    if (IsBusy(chunk) || IsInBootSet(chunk)) return;
    if (kind == 8) StartOn(chunk, Discard(chunk));
    if (kind == 9) StartOn(chunk, Zero(chunk, fua));
  } else if (kind < 15) {
    const Range range = AnyRange(Below(image_chunks));
    if (!IsBusy(range)) StartOn(range, Read(range));
  } else if (kind < 18) {
    StartOn({}, Flush());
  } else if (kind < 20) {
    StartOn({}, Hydrate(Below(image_chunks), FetchClass::kBackfill));
  } else if (kind == 20) {
    StartOn({}, Checkpoint());
  } else if (kind == 21) {
    StartOn({}, Below(2) == 0 ? RewriteAnchor() : CountBoot());
  } else {
    StartOn({}, MoveMetadata(next_move_++ % 5));
  }
}

void StreamClient::Expect(const Status& status, const char* what) {
  if (!status) Fail(std::string(what) + ": " + status.error().message);
}

Task<void> StreamClient::Read(Range range) {
  std::vector<std::byte> out(range.size);
  const Status status = co_await session_.engine().Read(range.offset, out);
  Expect(status, "read");
  for (uint64_t done = 0; done < out.size();) {
    const uint64_t at = range.offset + done;
    const uint64_t inside = at % kBlockBytes;
    const uint64_t size =
        std::min<uint64_t>(out.size() - done, kBlockBytes - inside);
    const auto wanted = model_.Latest(at / kBlockBytes).subspan(inside, size);
    if (std::memcmp(out.data() + done, wanted.data(), size) != 0) {
      Fail("byte " + std::to_string(at) +
           " does not read as it was written last");
      co_return;
    }
    done += size;
  }
}

Task<void> StreamClient::Write(Range range, bool fua) {
  const std::vector<std::byte> data = RandomBytes(range.size, random_());
  const uint64_t ticket =
      model_.BeginWrite(device_.clock(), range.offset, data);
  const Status status =
      co_await session_.engine().Write(range.offset, data, fua);
  Expect(status, "write");
  model_.EndWrite(ticket, device_.clock(), fua && status.has_value());
}

Task<void> StreamClient::Zero(Range range, bool fua) {
  const std::vector<std::byte> zeroes(range.size);
  const uint64_t ticket =
      model_.BeginWrite(device_.clock(), range.offset, zeroes);
  const Status status =
      co_await session_.engine().WriteZeroes(range.offset, range.size, fua);
  Expect(status, "write zeroes");
  model_.EndWrite(ticket, device_.clock(), fua && status.has_value());
}

// A whole chunk: zero afterwards, but for those that stay as they are: pinned
// ones, and all when everything settles.
Task<void> StreamClient::Discard(Range range) {
  const ImageChunk chunk{range.offset / kChunk};
  uint64_t ticket = 0;
  const bool acts = !session_.engine().goes_home(chunk);
  if (acts) {
    const std::vector<std::byte> zeroes(range.size);
    ticket = model_.BeginWrite(device_.clock(), range.offset, zeroes);
  }
  const Status status =
      co_await session_.engine().Discard(range.offset, range.size);
  Expect(status, "discard");
  if (acts) model_.EndWrite(ticket, device_.clock(), false);
}

Task<void> StreamClient::Flush() {
  const uint64_t ticket = model_.BeginFlush();
  const Status status = co_await session_.engine().Flush();
  Expect(status, "flush");
  if (status) model_.EndFlush(ticket, device_.clock());
}

Task<void> StreamClient::Hydrate(uint64_t chunk, FetchClass fetch_class) {
  const Status status =
      co_await session_.engine().Hydrate(ImageChunk{chunk}, fetch_class);
  if (!status && status.error().code == ErrorCode::kNoSpace) co_return;
  Expect(status, "hydrate");
}

// Writes that wait for room hold up all that would be started after them.
void StreamClient::GiveUpForRoom() {
  const auto since = session_.engine().room().waiting_since();
  if (!options_.gives_up_for_room || give_up_begun_ || !since) return;
  if (session_.executor().Now() - *since < std::chrono::seconds(5)) return;
  ++tally_["writes freed by giving up"];
  StartGiveUp();
}

// What comes meanwhile must not go to places that are still the source's.
void StreamClient::StartGiveUp() {
  StartOn({}, GiveUpSource());
  const Grid& grid = session_.engine().manifest().grid();
  for (uint64_t chunk = 0; chunk < grid.chunk_count(); ++chunk) {
    StartOn({}, Hydrate(chunk, FetchClass::kBackfill));
  }
}

Task<void> StreamClient::GiveUpSource() {
  give_up_begun_ = device_.clock();
  const Status status = co_await session_.engine().GiveUpSource();
  if (status) given_up_ = device_.clock();
  ++tally_[status ? "sources given up" : "sources not given up"];
  if (!status && status.error().code == ErrorCode::kNoSpace) co_return;
  Expect(status, "give up");
}

Task<void> StreamClient::Checkpoint() {
  const Status status = co_await session_.store().Checkpoint();
  Expect(status, "checkpoint");
}

Task<void> StreamClient::MoveMetadata(uint64_t which) {
  MapStore& store = session_.store();
  if (store.region().available_count(true) < 4) {
    ++tally_["metadata moves left out"];
    co_return;
  }
  const Superblock& superblock = store.superblock();
  const std::array<DiskChunk, 5> all{
      superblock.superblock_chunks[0], superblock.superblock_chunks[1],
      superblock.manifest_chunk, superblock.checkpoint_chunk,
      superblock.journal_chunk};
  const DiskChunk chunk = all[which];
  const Status status = co_await store.MoveMetadata(chunk);
  ++tally_[status ? "metadata moves" : "metadata moves refused"];
  if (status) {
    store.Release(chunk);
  } else if (status.error().code != ErrorCode::kInvalid &&
             status.error().code != ErrorCode::kNoSpace) {
    Expect(status, "move metadata");
  }
}

Task<void> StreamClient::RewriteAnchor() {
  const uint64_t offset = session_.store().superblock().anchor_offset;
  const Status status = co_await session_.store().WriteAnchor(offset);
  Expect(status, "anchor");
}

Task<void> StreamClient::CountBoot() {
  const Status status = co_await session_.store().UpdateSuperblock(
      [](Superblock& superblock) { ++superblock.boots_total; });
  Expect(status, "superblock");
}

}  // namespace bootstream
