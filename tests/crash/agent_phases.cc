#include "tests/crash/agent_phases.h"

#include <cstring>

#include "blockmap/map/journal.h"
#include "tests/crash/agent_workload.h"
#include "tests/crash/simulator.h"

namespace bootstream {
namespace {

AgentWorkload::Options OptionsFor(AgentWorkload::Command command,
                                  uint64_t seed) {
  AgentWorkload::Options options;
  options.command = command;
  options.batch_chunks = static_cast<uint32_t>(2 + seed % 7);
  return options;
}

// What comes before has used up some of the journal, or all of it.
void Age(Scene& scene, uint64_t seed) {
  const uint64_t blocks = JournalBlocks(1, Scene::kChunk);
  UseUpJournal(*ReleasedScene(), MixSeed(seed, 1) % (blocks + 1), scene);
}

const Scene& Armed() {
  static const Scene armed = ArmedScene(*ReleasedScene());
  return armed;
}

}  // namespace

std::vector<PhaseOfLife> AgentPhases(uint64_t operations) {
  using Command = AgentWorkload::Command;
  const auto lay_down = [](uint64_t seed) {
    Scene scene = ReleasedScene()->scene;
    if (seed % 2 == 0) {
      std::vector<std::byte> disk = scene.disk;
      for (const DiskExtent& extent : scene.region) {
        std::memset(disk.data() + extent.first * Scene::kChunk, 0,
                    extent.count * Scene::kChunk);
      }
      scene.SetDisk(disk);
    }
    std::vector<std::byte> content = scene.image;
    return std::make_unique<AgentWorkload>(std::move(scene), std::move(content),
                                           OptionsFor(Command::kLayDown, seed));
  };
  const auto migrate = [](uint64_t seed) {
    Scene scene = ReleasedScene()->scene;
    Age(scene, seed);
    std::vector<std::byte> content = scene.image;
    return std::make_unique<AgentWorkload>(std::move(scene), std::move(content),
                                           OptionsFor(Command::kMigrate, seed));
  };
  const auto from_armed = [](uint64_t seed) {
    Scene scene = Armed();
    Age(scene, seed);
    std::vector<std::byte> content = scene.image;
    return std::make_unique<AgentWorkload>(
        std::move(scene), std::move(content),
        OptionsFor(Command::kRollback, seed));
  };
  const auto from_streaming = [operations](uint64_t seed) {
    LivedScene lived = StreamedScene(Armed(), operations, seed);
    Age(lived.scene, seed);
    return std::make_unique<AgentWorkload>(
        std::move(lived.scene), std::move(lived.content),
        OptionsFor(Command::kRollback, seed));
  };
  const auto back_again = [operations](uint64_t seed) {
    LivedScene lived = StreamedScene(Armed(), operations, seed);
    ParkScene(*ReleasedScene(), lived.scene);
    Age(lived.scene, seed);
    return std::make_unique<AgentWorkload>(std::move(lived.scene),
                                           std::move(lived.content),
                                           OptionsFor(Command::kReturn, seed));
  };
  // Whether a run needs a fresh journal is drawn, so only many are judged.
  constexpr uint64_t kManyRounds = 8;
  const std::vector<std::string> switches{"journal switches"};
  return {{"laydown", lay_down},
          {"migrate", migrate, switches, kManyRounds},
          {"rollback-armed", from_armed, switches, kManyRounds},
          {"rollback-streaming", from_streaming, switches, kManyRounds},
          {"return", back_again, switches, kManyRounds}};
}

}  // namespace bootstream
