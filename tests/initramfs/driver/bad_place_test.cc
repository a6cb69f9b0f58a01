#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "blockmap/disk/mover.h"
#include "blockmap/map/chain.h"
#include "initramfs/driver/engine.h"
#include "tests/support/engine_rig.h"
#include "tests/support/uncertain_image.h"

// A day in the life of a disk that uses every kind of place, once for each read
// and each write of it that fails.  What each kind does then is said below;
// nothing that was acknowledged is lost, and the source's chunks are whole.

namespace bootstream {
namespace {

constexpr uint64_t kChunk = EngineRig::kChunk;

enum class Place : uint8_t {
  kSuperblock,
  kJournal,
  kCheckpoint,
  kManifest,
  kAnchor,
  kClean,       // the server has it
  kDirty,       // only the disk has it
  kMixed,       // both in one request
  kSource,      // a chunk of the source, where it always was
  kSourceCopy,  // and where it was relocated to
  kOther,       // left, or never used
};
using enum Place;

const std::set<Place> kWritten{kSuperblock, kJournal, kCheckpoint,
                               kManifest,   kAnchor,  kClean,
                               kDirty,      kMixed,   kSourceCopy};
const std::set<Place> kRead{kSuperblock, kJournal,   kCheckpoint, kManifest,
                            kAnchor,     kClean,     kDirty,      kMixed,
                            kSource,     kSourceCopy};

// A request of the day, and what it meant.
struct Request {
  IoRequest::Op op;
  uint64_t offset;
  uint64_t size;
  std::optional<Place> place;
};

class Day {
 public:
  Day() : rig_({{0, 1}, {16, 8}, {64, 80}, {156, 1}}), model_(rig_.image()) {
    const uint64_t anchor = AnchorCandidates(rig_.device().size_bytes())[0];
    EXPECT_TRUE(RunInline(rig_.store().WriteAnchor(anchor)));
    rig_.faults().Watch([this](const IoRequest& request) { Note(request); });
  }

  void Run() {
    Morning();
    Flush();
    Step(RunInline(rig_.store().Checkpoint()));
    Restart();
    Afternoon();
    Flush();
    Restart();
    for (uint64_t c = 0; c < EngineRig::kImageChunks; ++c) Read(c);
  }
  // Everything, from a disk that works again.
  void CheckAll() {
    rig_.faults().Mend();
    model_.Compare(0, rig_.Read(0, model_.size()));
    model_.Ended();
    rig_.Restart();
    model_.Compare(0, rig_.Read(0, model_.size()));
    for (uint64_t c = 0; c < EngineRig::kDiskChunks; ++c) {
      if (!IsInRegion(c)) ExpectSource(c);
    }
  }

  EngineRig& rig() { return rig_; }
  // Of one kind, in their order.
  std::vector<Request> Requests(IoRequest::Op op) const {
    std::vector<Request> result;
    std::ranges::copy_if(requests_, std::back_inserter(result),
                         [&](const Request& r) { return r.op == op; });
    return result;
  }
  // What failed: reading, and anything else.
  const std::vector<Error>& failed_reads() const { return failed_reads_; }
  const std::vector<Error>& failed() const { return failed_; }

 private:
  void Morning() {
    Read(0);
    SetTableId(1);
    for (const uint64_t chunk : {1, 2, 3, 5, 6}) Read(chunk);
    Write(2, kBlockBytes, kBlockBytes);    // clean before
    Write(20, 0, kChunk);                  // absent before
    Write(21, kBlockBytes, kSectorBytes);  // part of a block, a patch
    Read(21);
    Write(4, 0, kBlockBytes);                // pinned: the source gives way
    Write(5, kBlockBytes, 2 * kBlockBytes);  // the same, and it brings its own
  }
  void Afternoon() {
    for (const uint64_t chunk : {1, 2, 4, 5, 20, 21}) Read(chunk);
    Write(20, 512, kBlockBytes);
    Write(6, 512, kSectorBytes);
    Move(rig_.store().superblock().manifest_chunk);
    Move(rig_.store().superblock().superblock_chunks[0]);
    const DiskChunk moves_on{4};
    Step(RunInline(Relocate(rig_.faults(), rig_.store(), {&moves_on, 1})));
    SetTableId(2);
  }

  void Read(uint64_t chunk) {
    std::vector<std::byte> out(kChunk);
    const Status s = RunInline(rig_.engine().Read(chunk * kChunk, out));
    if (s) model_.Compare(chunk * kChunk, out);
    if (!s) failed_reads_.push_back(s.error());
    Step(OkStatus());
  }
  void Write(uint64_t chunk, uint64_t at, uint64_t size) {
    WriteBytes(chunk * kChunk + at,
               std::vector<std::byte>(size, std::byte{++last_value_}));
  }
  void WriteBytes(uint64_t offset, const std::vector<std::byte>& data) {
    const Status s = RunInline(rig_.engine().Write(offset, data, false));
    model_.Wrote(offset, data, s.has_value());
    Step(s);
  }
  // The anchor follows.
  void SetTableId(uint8_t id) {
    std::vector<std::byte> header(kSectorBytes);
    std::memcpy(header.data(), "EFI PART", 8);
    std::memset(header.data() + 56, id, 16);
    WriteBytes(kSectorBytes, header);
  }
  void Flush() {
    const Status s = RunInline(rig_.engine().Flush());
    model_.Flushed(s.has_value());
    Step(s);
  }
  void Move(DiskChunk metadata) {
    const Status s = RunInline(rig_.store().MoveMetadata(metadata));
    if (s) rig_.store().Release(metadata);
    Step(s);
  }
  // A start that fails is tried again.
  void Restart() {
    model_.Ended();
    const Status s = rig_.TryRestart();
    if (!s) rig_.Restart();
    Step(s);
  }

  void Step(const Status& status) {
    if (!status) failed_.push_back(status.error());
    for (Request& request : requests_) {
      if (!request.place) {
        request.place = PlaceOf(request.offset, request.size).value_or(kOther);
      }
    }
  }
  // A read is judged by what is there now, a write by what there will be.
  void Note(const IoRequest& request) {
    Request noted{request.op, request.offset, request.size, std::nullopt};
    if (request.op == IoRequest::Op::kRead && rig_.is_open()) {
      noted.place = PlaceOf(request.offset, request.size);
    }
    requests_.push_back(noted);
  }
  std::optional<Place> PlaceOf(uint64_t offset, uint64_t size) {
    const Superblock& superblock = rig_.store().superblock();
    for (const uint64_t at : AnchorCandidates(rig_.device().size_bytes())) {
      if (offset / kAnchorBytes != at / kAnchorBytes) continue;
      return at == superblock.anchor_offset ? kAnchor : kOther;
    }
    const DiskChunk chunk{offset / kChunk};
    const Occupant who = rig_.store().region().OccupantOf(chunk);
    switch (who.use) {
      case ChunkUse::kForeign:
        return kSource;
      case ChunkUse::kSource:
        return kSourceCopy;
      case ChunkUse::kMetadata:
        return MetadataIn(chunk, size);
      case ChunkUse::kImage:
        return ImagePlace(ImageChunk{who.number}, offset, size);
      default:
        return std::nullopt;
    }
  }
  std::optional<Place> MetadataIn(DiskChunk chunk, uint64_t size) {
    const auto& places = rig_.store().superblock().superblock_chunks;
    if (std::ranges::find(places, chunk) != places.end()) return kSuperblock;
    const auto header = DecodeChainHeader(
        rig_.device().bytes().subspan(chunk.value * kChunk, kChainHeaderBytes));
    if (!header) return std::nullopt;
    switch (header->name.kind) {
      case ChainKind::kCheckpoint:
        return kCheckpoint;
      case ChainKind::kJournal:
        // Its tail is looked at by sectors, for what a power cut has torn.
        return size == kSectorBytes ? kOther : kJournal;
      case ChainKind::kManifest:
        return kManifest;
    }
    return std::nullopt;
  }
  Place ImagePlace(ImageChunk chunk, uint64_t offset, uint64_t size) {
    const bool kept = chunk.value == 0 || chunk.value == 4 || chunk.value == 5;
    if (kept && offset / kChunk == chunk.value) return kDirty;
    const uint64_t dirty = rig_.engine_state(chunk.value).dirty;
    const uint64_t first = offset % kChunk / kBlockBytes;
    const uint64_t end = (offset % kChunk + size - 1) / kBlockBytes + 1;
    uint64_t count = 0;
    for (uint64_t b = first; b < end; ++b) count += dirty >> b & 1;
    return count == 0 ? kClean : count == end - first ? kDirty : kMixed;
  }
  bool IsInRegion(uint64_t chunk) {
    const auto& base = rig_.store().region().base();
    return std::ranges::any_of(base, [&](const DiskExtent& extent) {
      return chunk >= extent.first && chunk < extent.end();
    });
  }
  void ExpectSource(uint64_t chunk) {
    const auto now = rig_.SourceChunk(chunk);
    ASSERT_EQ(std::memcmp(now.data(), rig_.old_disk().data() + chunk * kChunk,
                          kChunk),
              0)
        << "source chunk " << chunk;
  }

  EngineRig rig_;
  UncertainImage model_;
  uint8_t last_value_ = 0;
  std::vector<Request> requests_;
  std::vector<Error> failed_reads_;
  std::vector<Error> failed_;
};

// Metadata of which there are two is read from the other; what the server has
// comes from there; anything else is an error, once, of the step that needs it.
void ExpectAfterRead(const Request& bad, const Day& day) {
  switch (*bad.place) {
    case kSuperblock:
    case kAnchor:
    case kClean:
    case kMixed:
    case kOther:
      EXPECT_TRUE(day.failed().empty()) << day.failed()[0].message;
      EXPECT_TRUE(day.failed_reads().empty()) << day.failed_reads()[0].message;
      break;
    case kJournal:  // read again in smaller pieces, but for its headers
      EXPECT_LE(day.failed().size() + day.failed_reads().size(), 1U);
      break;
    default:
      EXPECT_EQ(day.failed().size() + day.failed_reads().size(), 1U);
  }
}

// A download that cannot be kept is answered all the same, and metadata goes
// elsewhere.
void ExpectAfterWrite(const Request& bad, const Day& day) {
  EXPECT_TRUE(day.failed_reads().empty()) << day.failed_reads()[0].message;
  if (bad.place == kJournal || bad.place == kCheckpoint) {
    EXPECT_TRUE(day.failed().empty()) << day.failed()[0].message;
  }
}

void ExpectErrorsNameThePlace(const Request& bad, const Day& day) {
  for (const auto& errors : {day.failed_reads(), day.failed()}) {
    for (const Error& error : errors) {
      EXPECT_EQ(error.code, ErrorCode::kIo) << error.message;
      EXPECT_NE(error.message.find("byte " + std::to_string(bad.offset)),
                std::string::npos)
          << error.message;
    }
  }
}

void FailEach(IoRequest::Op op, const std::set<Place>& places) {
  Day good;
  ASSERT_NO_FATAL_FAILURE(good.Run());
  ASSERT_TRUE(good.failed().empty()) << good.failed()[0].message;
  const std::vector<Request> requests = good.Requests(op);
  std::set<Place> hit;
  for (size_t n = 0; n < requests.size(); ++n) {
    const Request& bad = requests[n];
    SCOPED_TRACE("request " + std::to_string(n) + " at byte " +
                 std::to_string(bad.offset) + ", place " +
                 std::to_string(static_cast<int>(*bad.place)));
    hit.insert(*bad.place);
    Day day;
    const bool reads = op == IoRequest::Op::kRead;
    reads ? day.rig().faults().FailRead(n) : day.rig().faults().FailWrite(n);
    ASSERT_NO_FATAL_FAILURE(day.Run());
    EXPECT_EQ(day.rig().faults().failure_count(), 1U);
    reads ? ExpectAfterRead(bad, day) : ExpectAfterWrite(bad, day);
    ExpectErrorsNameThePlace(bad, day);
    ASSERT_NO_FATAL_FAILURE(day.CheckAll());
  }
  hit.erase(kOther);
  EXPECT_EQ(hit, places);
}

TEST(BadPlaceTest, EachReadMayFail) { FailEach(IoRequest::Op::kRead, kRead); }

TEST(BadPlaceTest, EachWriteMayFail) {
  FailEach(IoRequest::Op::kWrite, kWritten);
}

}  // namespace
}  // namespace bootstream
