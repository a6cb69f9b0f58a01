#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/map_leave.h"
#include "tests/blockmap/map/map_store_fixture.h"
#include "tests/support/crash_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = MapFixture::kChunk;
constexpr uint64_t kCount = MapFixture::kImageChunks;

uint64_t AnchorAt() { return AnchorCandidates(MapFixture::kDiskBytes)[0]; }

// A map that was given up, all of it at home, on a disk that may lose power.
class Settling {
 public:
  Settling() : device_(OldDisk()) {
    store_ = MapFixture::Create(device_);
    EXPECT_TRUE(RunInline(store_->UpdateSuperblock(
        [](Superblock& block) { block.phase = Phase::kComplete; })));
    EXPECT_TRUE(RunInline(store_->GiveUpSource()));
    EXPECT_TRUE(RunInline(store_->WriteAnchor(AnchorAt())));
    for (uint64_t c = 0; c < kCount; ++c) TakeHome(c);
    CrowdMetadata();
    EXPECT_TRUE(RunInline(store_->Commit()));
    for (uint64_t c = 0; c < kCount; ++c) MakeZero(c);
  }

  MapStore& store() { return *store_; }
  CrashDevice& device() { return device_; }
  Status Settle() { return RunInline(store_->Settle()); }
  Status Leave() { return RunInline(store_->Leave()); }
  void MakeZeroAgain() {
    EXPECT_TRUE(RunInline(store_->Commit()));
    for (uint64_t c = 0; c < kCount; ++c) MakeZero(c);
  }

  // Is `disk`, found after a power cut, what it must be?  Nothing of ours, or a
  // map; what it says may leave is finished.
  static std::string Check(CrashDevice disk) {
    const auto anchor = RunInline(ReadAnchor(disk, AnchorAt()));
    if (anchor && !anchor->leaving) {
      const auto store = MapFixture::Open(disk);
      if (!store) return store.error().message;
      const bool settled = (*store)->superblock().phase == Phase::kSettled;
      return settled ? CheckRaw(disk, store->get()) : "";
    }
    if (anchor) {
      const Status s = RunInline(FinishLeaving(disk, AnchorAt(), *anchor));
      if (!s) return s.error().message;
    }
    return CheckRaw(disk, nullptr);
  }

 private:
  // Nothing of it is zero.
  static const DiskImage& OldDisk() {
    static const DiskImage image = [] {
      CrashDevice device(MapFixture::kDiskBytes);
      AlignedBuffer content(kChunk);
      for (uint64_t c = 0; c < MapFixture::kDiskChunks; ++c) {
        std::fill(content.span().begin(), content.span().end(),
                  static_cast<std::byte>(c | 1));
        Write(device, c * kChunk, content.span());
      }
      return device.image();
    }();
    return image;
  }
  static void Write(BlockDevice& device, uint64_t at,
                    std::span<const std::byte> data) {
    const auto write = [&]() -> Task<Status> {
      co_return co_await device.Write(at, data);
    };
    EXPECT_TRUE(RunInline(write()));
  }
  static uint64_t BytesOf(uint64_t chunk) {
    return MapFixture::Facts().grid.bytes_of(chunk);
  }
  static bool IsZero(uint64_t chunk) {
    return MapFixture::Facts().is_zero(ImageChunk{chunk});
  }
  static std::byte ValueOf(uint64_t chunk) {
    return IsZero(chunk) ? std::byte{0} : static_cast<std::byte>(chunk + 100);
  }

  void Fill(uint64_t chunk) {
    AlignedBuffer content(BytesOf(chunk));
    std::fill(content.span().begin(), content.span().end(), ValueOf(chunk));
    Write(device_, chunk * kChunk, content.span());
  }
  // Nothing is free beyond the image: metadata comes to where that is zero.
  void CrowdMetadata() {
    std::vector<DiskChunk> held;
    for (uint64_t c = kCount; c < MapFixture::kDiskChunks; ++c) {
      if (store_->AllocateAt(DiskChunk{c})) held.push_back(DiskChunk{c});
    }
    for (uint64_t c = kCount; c < MapFixture::kDiskChunks; ++c) {
      const bool anchor = c == AnchorAt() / kChunk;
      if (anchor || UseOf(*store_, DiskChunk{c}) != ChunkUse::kMetadata) {
        continue;
      }
      const Status moved = RunInline(store_->MoveMetadata(DiskChunk{c}));
      EXPECT_TRUE(moved) << moved.error().message;
      held.push_back(DiskChunk{c});
    }
    EXPECT_TRUE(RunInline(store_->Checkpoint()));
    for (const DiskChunk chunk : held) store_->Release(chunk);
    EXPECT_LT(store_->superblock().manifest_chunk.value, kCount);
    EXPECT_LT(store_->superblock().superblock_chunks[0].value, kCount);
  }
  void TakeHome(uint64_t chunk) {
    if (IsZero(chunk)) return;
    const DiskChunk home{chunk};
    const bool free = store_->AllocateAt(home);
    EXPECT_TRUE(free || RunInline(store_->MoveMetadata(home)));
    Fill(chunk);
    store_->SetChunk(
        ImageChunk{chunk},
        {Location::At(home), MapFixture::Facts().grid.full_mask(chunk), 0});
  }
  void MakeZero(uint64_t chunk) {
    const DiskChunk home{chunk};
    if (!IsZero(chunk) || !store_->AllocateAt(home)) return;
    Fill(chunk);
    store_->Release(home);
    store_->NoteZeroed(home);
  }

  // Where there is a map, but for where its metadata lies.
  static std::string CheckRaw(CrashDevice& disk, const MapStore* store) {
    AlignedBuffer content(kChunk);
    for (uint64_t c = 0; c < kCount; ++c) {
      const bool metadata = store != nullptr &&
                            UseOf(*store, DiskChunk{c}) == ChunkUse::kMetadata;
      if (metadata) continue;
      const auto part = content.span().first(BytesOf(c));
      const auto read = [&]() -> Task<Status> {
        co_return co_await disk.Read(c * kChunk, part);
      };
      if (!RunInline(read())) return "unreadable";
      AlignedBuffer expected(part.size());
      std::fill(expected.span().begin(), expected.span().end(), ValueOf(c));
      const bool right =
          std::memcmp(part.data(), expected.data(), part.size()) == 0;
      if (!right)
        return "raw chunk " + std::to_string(c) + " is not the image's";
    }
    return "";
  }

  CrashDevice device_;
  std::unique_ptr<MapStore> store_;
};

TEST(MapSettleTest, EveryPowerCutLeavesAMapOrTheImage) {
  for (const bool at_flush : {false, true}) {
    for (uint64_t cut = 0;; ++cut) {
      Settling settling;
      at_flush ? settling.device().CutPowerAtFlush(cut)
               : settling.device().CutPowerAtWrite(cut);
      const bool done = settling.Settle() && settling.Leave();
      std::mt19937_64 random(cut);
      for (int fate = 0; fate < 6; ++fate) {
        CrashDevice after(settling.device().AfterPowerCut(random));
        ASSERT_EQ(Settling::Check(std::move(after)), "")
            << (at_flush ? "flush " : "write ") << cut;
      }
      if (done) break;
      ASSERT_LT(cut, 1000U);
    }
  }
}

// The power fails again while the next start finishes what was left.
TEST(MapSettleTest, LeavingIsFinishedHoweverOftenThePowerFails) {
  for (uint64_t cut = 0;; ++cut) {
    Settling settling;
    ASSERT_TRUE(settling.Settle());
    settling.device().CutPowerAtWrite(cut);
    const bool done = settling.Leave().has_value();
    std::mt19937_64 random(cut);
    uint64_t writes = 0;
    for (int fate = 0; fate < 60; ++fate) {
      CrashDevice after(settling.device().AfterPowerCut(random));
      const auto anchor = RunInline(ReadAnchor(after, AnchorAt()));
      if (!anchor || !anchor->leaving) {
        if (fate == 9) break;  // it does not come to that
        continue;
      }
      if (writes == 0) {
        CrashDevice whole(after.image());
        ASSERT_TRUE(RunInline(FinishLeaving(whole, AnchorAt(), *anchor)));
        writes = whole.write_count();
      }
      // The last write, the anchor's, more often than others.
      const uint64_t second = fate % 4 == 0 ? random() % writes : writes - 1;
      after.CutPowerAtWrite(second);
      if (RunInline(FinishLeaving(after, AnchorAt(), *anchor))) continue;
      CrashDevice again(after.AfterPowerCut(random));
      ASSERT_EQ(Settling::Check(std::move(again)), "")
          << "write " << cut << ", then " << second;
    }
    if (done) break;
    ASSERT_LT(cut, 1000U);
  }
}

TEST(MapSettleTest, IsNotSettledWhileAHomeIsNotKnownToBeZero) {
  Settling settling;
  ASSERT_TRUE(settling.Settle());
  // Whoever gets it, leaves something there.
  DiskChunk zero{11};
  while (UseOf(settling.store(), zero) != ChunkUse::kFree) zero.value += 4;
  const auto got = settling.store().Allocate(
      {PlacementWish::For::kImageChunk, ImageChunk{zero.value}}, true);
  ASSERT_EQ(got, zero);
  settling.store().Release(zero);
  EXPECT_LT(settling.store().settled_count(), kCount);
}

TEST(MapSettleTest, NoLongerSettledBeforeMetadataTakesAnotherPlace) {
  using Move = std::function<Task<Status>(MapStore&)>;
  const std::vector<Move> moves = {
      [](MapStore& store) { return store.Checkpoint(); },
      [](MapStore& store) {
        return store.MoveMetadata(store.superblock().superblock_chunks[0]);
      },
      [](MapStore& store) {
        return store.MoveMetadata(store.superblock().manifest_chunk);
      },
      [](MapStore& store) {
        return store.MoveMetadata(
            DiskChunk{store.superblock().anchor_offset / kChunk});
      }};
  for (size_t i = 0; i < moves.size(); ++i) {
    for (uint64_t cut = 0;; ++cut) {
      SCOPED_TRACE("move " + std::to_string(i) + " write " +
                   std::to_string(cut));
      Settling settling;
      ASSERT_TRUE(settling.Settle());
      settling.device().CutPowerAtWrite(cut);
      const bool done = RunInline(moves[i](settling.store())).has_value();
      if (done) {
        EXPECT_EQ(settling.store().superblock().phase, Phase::kCommitted);
        EXPECT_EQ(settling.Leave().error().code, ErrorCode::kUnavailable);
        break;
      }
      if (settling.device().has_power()) {
        ASSERT_EQ(i, 3U) << "refused";  // B's chunk may be in use
        break;
      }
      std::mt19937_64 random(cut);
      for (int fate = 0; fate < 4; ++fate) {
        CrashDevice after(settling.device().AfterPowerCut(random));
        ASSERT_EQ(Settling::Check(std::move(after)), "");
      }
    }
  }
}

TEST(MapSettleTest, NothingIsChangedWhenTheMapHasLeft) {
  Settling settling;
  ASSERT_TRUE(settling.Settle());
  ASSERT_TRUE(settling.Leave());
  EXPECT_FALSE(RunInline(settling.store().Checkpoint()));
  EXPECT_TRUE(RunInline(settling.store().Commit())) << "a flush is one";
  EXPECT_FALSE(RunInline(ReadAnchor(settling.device(), AnchorAt())));
}

TEST(MapSettleTest, ListOfLeftoversIsChecked) {
  const std::vector<ByteExtent> ranges = {{4096, 512}, {1 << 20, 65536}};
  const auto bytes = EncodeLeftovers(MapFixture::Id(), ranges);
  ASSERT_TRUE(bytes);
  EXPECT_EQ(bytes->size(), kLeftoversBytes);
  const auto found = DecodeLeftovers(*bytes, MapFixture::Id());
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, ranges);
  EXPECT_FALSE(DecodeLeftovers(*bytes, Uuid{}));
  auto damaged = *bytes;
  damaged[40] ^= std::byte{1};
  EXPECT_FALSE(DecodeLeftovers(damaged, MapFixture::Id()));
  const std::vector<ByteExtent> many(kLeftoversMax + 1);
  EXPECT_EQ(EncodeLeftovers(MapFixture::Id(), many).error().code,
            ErrorCode::kNoSpace);
}

}  // namespace
}  // namespace bootstream
