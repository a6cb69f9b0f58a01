// A whole disk under migration: anchor, stub, superblocks, chains, journal.
// The input is a list of changes to a good disk's metadata (which piece, where
// in it, how many bytes, the bytes); what was touched gets its checksums back.
// The disk is looked for, read and opened as the agent and the driver do.

#include <algorithm>
#include <cstring>
#include <set>

#include "blockmap/base/coding.h"
#include "blockmap/base/crc32c.h"
#include "blockmap/disk/find_migration.h"
#include "blockmap/map/journal.h"
#include "blockmap/map/sealed.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/disk_image.h"
#include "tests/support/map_fixture.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint32_t kChunk = MapFixture::kChunk;
constexpr uint64_t kAnchorAt = 786432;
constexpr uint64_t kAnchorChunk = kAnchorAt / kChunk;

// A disk of which only what was changed costs memory.
class EditedDisk final : public BlockDevice {
 public:
  explicit EditedDisk(DiskImage image) : image_(std::move(image)) {}
  void Submit(IoRequest& request) override {
    const uint64_t size = image_.size();
    Require(
        request.op == IoRequest::Op::kFlush ||
            (request.offset <= size && request.size <= size - request.offset),
        "nothing outside the disk is touched");
    if (request.op == IoRequest::Op::kRead) {
      image_.Read(request.offset, {request.data, request.size});
    } else if (request.op == IoRequest::Op::kWrite) {
      image_.Write(request.offset, {request.data, request.size});
    }
    request.complete(request, OkStatus());
  }
  uint64_t size_bytes() const override { return image_.size(); }
  DiskImage& image() { return image_; }

 private:
  DiskImage image_;
};

enum class Kind { kSealed, kStub, kPayload, kJournal };
struct Piece {
  Kind kind;
  uint64_t offset;
  uint64_t size;
};
struct Base {
  std::vector<std::byte> bytes;
  std::vector<Piece> pieces;
};

// A map with a little of everything in it.
void Live(MemoryDevice& device) {
  auto options = MapFixture::Options();
  options.manifest_file.resize(100);
  auto made = RunInline(MapStore::Create(device, std::move(options)));
  Require(made.has_value(), "a map can be made");
  const std::unique_ptr<MapStore> store = std::move(*made);
  const auto place = [&](uint64_t chunk, uint64_t valid, uint64_t dirty) {
    PlacementWish wish;
    wish.chunk.value = chunk;
    const auto at = store->Allocate(wish);
    Require(at.has_value(), "there is room");
    store->SetChunk(wish.chunk, {Location::At(*at), valid, dirty});
  };
  const auto relocate = [&](uint64_t source) {
    const auto now = store->Allocate({PlacementWish::For::kSource, {}});
    Require(now.has_value(), "there is room");
    store->SetRelocation(DiskChunk{source}, *now);
  };
  for (uint64_t chunk = 0; chunk < 12; ++chunk) place(chunk * 4, 0xffff, 0);
  place(1, 0xff, 0x0f);
  relocate(kAnchorChunk);
  relocate(2);
  Require(RunInline(store->Commit()).has_value(), "it commits");
  Require(RunInline(store->WriteAnchor(kAnchorAt)).has_value(), "an anchor");
  Require(RunInline(store->Checkpoint()).has_value(), "a checkpoint");
  place(5, 0xffff, 0xffff);
  store->SetChunk(ImageChunk{8}, {Location::Zero(), 0, 0});
  store->AddPatch(ImageChunk{9}, {100, std::vector<std::byte>(50)});
  store->AddPatch(ImageChunk{10}, {8192, std::vector<std::byte>(512)});
  relocate(3);
  Require(RunInline(store->Commit()).has_value(), "it commits");
  Stub stub;
  stub.chunk_bytes = kChunk;
  stub.migration_id = store->superblock().migration_id;
  stub.disk = store->superblock().disk;
  stub.superblock_chunks = store->superblock().superblock_chunks;
  std::ranges::copy(EncodeStub(stub), device.bytes().begin());
}

bool Begins(std::span<const std::byte> bytes, std::string_view magic) {
  return std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

Base MakeBase() {
  MemoryDevice device(MapFixture::kDiskBytes);
  Live(device);
  Base base{{device.bytes().begin(), device.bytes().end()}, {}};
  base.pieces = {{Kind::kSealed, kAnchorAt, kSectorBytes},
                 {Kind::kSealed, kAnchorAt + 2048, kSectorBytes},
                 {Kind::kStub, 0, kSectorBytes}};
  for (uint64_t chunk = 0; chunk < MapFixture::kDiskChunks; ++chunk) {
    const uint64_t at = chunk * kChunk;
    for (uint64_t block = 0; block < 2; ++block) {
      const uint64_t slot = at + block * kBlockBytes;
      if (Begins(std::span(base.bytes).subspan(slot), "BSSUPER1")) {
        base.pieces.push_back({Kind::kSealed, slot, kBlockBytes});
      }
    }
    const auto header = std::span(base.bytes).subspan(at, kBlockBytes);
    if (!Begins(header, "BSCHAIN1")) continue;
    base.pieces.push_back({Kind::kSealed, at, kBlockBytes});
    const auto kind = LoadLe<uint32_t>(header.subspan<12, 4>());
    base.pieces.push_back({kind == 2 ? Kind::kJournal : Kind::kPayload,
                           at + kBlockBytes, kChunk - kBlockBytes});
  }
  return base;
}

// Checksums of a journal's blocks, from the first one on.
void SealJournal(std::span<const std::byte> header,
                 std::span<std::byte> blocks) {
  ChainName name;
  name.kind = ChainKind::kJournal;
  std::ranges::copy(header.subspan<16, 16>(), name.migration_id.begin());
  name.epoch = LoadLe<uint64_t>(header.subspan<32, 8>());
  uint32_t seed = JournalStart(name, 0).seed;
  for (; !blocks.empty(); blocks = blocks.subspan(kBlockBytes)) {
    const auto block = blocks.first(kBlockBytes);
    if (AllZero(block)) return;
    seed = Crc32c(block.subspan(4), seed);
    StoreLe<uint32_t>(block.subspan<0, 4>(), seed);
  }
}

void SealPiece(const Piece& piece, DiskImage& disk) {
  if (piece.kind == Kind::kSealed || piece.kind == Kind::kStub) {
    std::vector<std::byte> bytes(piece.size);
    disk.Read(piece.offset, bytes);
    Seal(piece.kind == Kind::kStub ? std::span(bytes).subspan(256, 184)
                                   : std::span(bytes));
    disk.Write(piece.offset, bytes);
    return;
  }
  std::vector<std::byte> chunk(kChunk);
  const uint64_t at = piece.offset - kBlockBytes;
  disk.Read(at, chunk);
  const auto header = std::span(chunk).first(kBlockBytes);
  const auto body = std::span(chunk).subspan(kBlockBytes);
  if (piece.kind == Kind::kJournal) {
    SealJournal(header, body);
  } else {
    const size_t size = std::min<size_t>(
        LoadLe<uint32_t>(header.subspan<56, 4>()), body.size());
    StoreLe<uint32_t>(header.subspan<60, 4>(), Crc32c(body.first(size)));
    Seal(header);
  }
  disk.Write(at, chunk);
}

void Edit(std::span<const std::byte> input, const std::vector<Piece>& pieces,
          DiskImage& disk) {
  ByteReader in(input);
  std::set<size_t> touched;
  while (in.remaining() > 4) {
    const size_t which = in.U8() % pieces.size();
    const uint64_t at = in.U16();
    const auto data = in.Bytes(std::min<size_t>(in.U8(), in.remaining()));
    const Piece& piece = pieces[which];
    const uint64_t offset = at % piece.size;
    disk.Write(piece.offset + offset,
               data.first(std::min<size_t>(data.size(), piece.size - offset)));
    touched.insert(which);
  }
  // Payloads before the headers that hold their checksums.
  for (const size_t which : touched) {
    if (pieces[which].kind != Kind::kSealed) SealPiece(pieces[which], disk);
  }
  for (const size_t which : touched) {
    if (pieces[which].kind == Kind::kSealed) SealPiece(pieces[which], disk);
  }
}

Result<Superblock> FindSuperblock(EditedDisk& disk) {
  auto found = RunInline(FindMigration(disk, Sha256{}));
  if (found && found->superblock) return std::move(*found->superblock);
  const std::vector<DiskChunk> order = MapFixture::ScanOrder();
  return RunInline(
      MapStore::ScanForSuperblock(disk, kChunk, MapFixture::Id(), order));
}

// What was opened can be used, closed and opened again.
void Use(EditedDisk& disk, MapStore& store) {
  PlacementWish wish;
  wish.chunk.value = 20;
  const ChunkState before = store.map().Get(wish.chunk);
  if (before.location.is_absent()) {
    if (const auto at = store.Allocate(wish)) {
      store.SetChunk(wish.chunk, {Location::At(*at), 1, 1});
    }
  }
  if (!RunInline(store.Commit())) return;  // no room, say
  if (!RunInline(store.Checkpoint())) return;
  const Superblock superblock = store.superblock();
  const auto again =
      RunInline(MapStore::Open(disk, superblock, MapFixture::Facts(), true));
  Require(again.has_value(), "what was committed can be opened");
  Require(Describe((*again)->map()) == Describe(store.map()),
          "what was committed is there");
}

}  // namespace

FUZZ_TARGET(map_open) {
  static const Base base = MakeBase();
  static const DiskImage whole(base.bytes);
  EditedDisk disk(whole);
  Edit(input, base.pieces, disk.image());
  const auto superblock = FindSuperblock(disk);
  if (!superblock) return;
  (void)RunInline(MapStore::ReadManifest(disk, *superblock));
  const auto read_only =
      RunInline(MapStore::Open(disk, *superblock, MapFixture::Facts(), true));
  const auto store =
      RunInline(MapStore::Open(disk, *superblock, MapFixture::Facts(), false));
  Require(read_only || !store, "what can be written can be read");
  if (store) Use(disk, **store);
}

}  // namespace bootstream
