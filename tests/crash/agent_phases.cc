#include "tests/crash/agent_phases.h"

#include <cstring>

#include "tests/crash/agent_workload.h"

namespace bootstream {
namespace {

AgentWorkload::Options OptionsFor(AgentWorkload::Command command,
                                  uint64_t seed) {
  AgentWorkload::Options options;
  options.command = command;
  options.batch_chunks = static_cast<uint32_t>(2 + seed % 7);
  return options;
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
    const Scene& scene = ReleasedScene()->scene;
    return std::make_unique<AgentWorkload>(scene, scene.image,
                                           OptionsFor(Command::kMigrate, seed));
  };
  const auto from_armed = [](uint64_t seed) {
    return std::make_unique<AgentWorkload>(
        Armed(), Armed().image, OptionsFor(Command::kRollback, seed));
  };
  const auto from_streaming = [operations](uint64_t seed) {
    LivedScene lived = StreamedScene(Armed(), operations, seed);
    return std::make_unique<AgentWorkload>(
        std::move(lived.scene), std::move(lived.content),
        OptionsFor(Command::kRollback, seed));
  };
  const auto back_again = [operations](uint64_t seed) {
    LivedScene lived = StreamedScene(Armed(), operations, seed);
    ParkScene(*ReleasedScene(), lived.scene);
    return std::make_unique<AgentWorkload>(std::move(lived.scene),
                                           std::move(lived.content),
                                           OptionsFor(Command::kReturn, seed));
  };
  return {{"laydown", lay_down},
          {"migrate", migrate},
          {"rollback-armed", from_armed},
          {"rollback-streaming", from_streaming},
          {"return", back_again}};
}

}  // namespace bootstream
