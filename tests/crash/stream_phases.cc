#include "tests/crash/stream_phases.h"

#include "tests/crash/grow_workload.h"
#include "tests/crash/settle_workload.h"
#include "tests/crash/stream_workload.h"

namespace bootstream {
namespace {

std::vector<uint64_t> Chunks(uint64_t first, uint64_t end) {
  std::vector<uint64_t> chunks;
  for (uint64_t c = first; c < end; ++c) chunks.push_back(c);
  return chunks;
}

std::unique_ptr<Workload> Make(std::vector<DiskExtent> region,
                               uint32_t journal_chunks,
                               StreamWorkloadOptions options, uint64_t seed) {
  SmallSceneOptions scene;
  scene.region = std::move(region);
  scene.journal_chunks = journal_chunks;
  scene.seed = seed;
  return std::make_unique<StreamWorkload>(
      std::make_shared<const Scene>(MakeSmallScene(scene)), std::move(options),
      seed);
}

}  // namespace

std::vector<PhaseOfLife> StreamPhases(uint64_t operations) {
  StreamWorkloadOptions usual;
  usual.client.operations = operations;
  usual.client.written_chunks = Chunks(0, 24);
  const auto stream = [usual](uint64_t seed) {
    return Make({{16, 8}, {40, 50}}, 2, usual, seed);
  };
  StreamWorkloadOptions tight = usual;
  tight.is_roomy = false;
  tight.client.written_chunks = {0, 4, 11, 17, 23};
  const auto full = [tight](uint64_t seed) {
    return Make({{40, 25}}, 1, tight, seed);
  };
  StreamWorkloadOptions pins = usual;
  pins.client.written_chunks = {2, 4, 4, 5, 5, 6, 6, 7};
  // Their homes are not ours: they are stored elsewhere until they are written
  // to.
  pins.client.read_first = {4, 5};
  const auto pinned = [pins](uint64_t seed) {
    return Make({{6, 2}, {40, 50}}, 1, pins, seed);
  };
  StreamWorkloadOptions moves = usual;
  moves.client.moves_metadata = true;
  const auto metadata = [moves](uint64_t seed) {
    return Make({{16, 8}, {40, 50}}, 1, moves, seed);
  };
  StreamWorkloadOptions gives_up = pins;
  gives_up.is_roomy = false;
  gives_up.client.gives_up_source = true;
  gives_up.client.moves_metadata = true;
  gives_up.client.written_chunks = {0, 4, 4, 5, 6, 11, 17, 23};
  const auto commit = [gives_up](uint64_t seed) {
    return Make({{6, 2}, {40, 30}}, 1, gives_up, seed);
  };
  // Hardly any room for what is written: writes wait, and the source is given
  // up because they do.
  StreamWorkloadOptions waits = usual;
  waits.is_roomy = false;
  waits.client.gives_up_for_room = true;
  waits.client.backfills = false;
  const auto blocked = [waits](uint64_t seed) {
    return Make({{40, 19}}, 1, waits, seed);
  };
  StreamClientOptions settles = usual.client;
  settles.backfills = false;
  settles.moves_metadata = true;
  const auto settle = [settles](uint64_t seed) -> std::unique_ptr<Workload> {
    SmallSceneOptions scene;
    scene.region = {{6, 2}, {40, 30}};
    scene.seed = seed;
    return std::make_unique<SettleWorkload>(
        std::make_shared<const Scene>(MakeSmallScene(scene)), settles, seed);
  };
  const auto grow = [](uint64_t seed) -> std::unique_ptr<Workload> {
    return std::make_unique<GrowWorkload>(seed);
  };
  return {
      {"stream", stream, {"read-throughs", "patches", "patches merged"}},
      {"stream-full", full, {"evictions"}},
      {"stream-pinned", pinned, {"moves home", "relocations"}},
      {"commit", commit, {"sources given up", "moves home"}},
      {"stream-blocked",
       blocked,
       {"sources given up", "writes that waited for room"}},
      {"settle", settle, {"left"}},
      {"grow", grow, {"tables grown"}},
      {"metadata",
       metadata,
       {"journal switches", "superblock moves", "manifest moves"}},
  };
}

}  // namespace bootstream
