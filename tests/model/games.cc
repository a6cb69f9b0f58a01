#include "tests/model/games.h"

#include <string>
#include <string_view>

namespace bootstream {
namespace {

// Scripts that make each other's life hard.
constexpr std::string_view kTriples[] = {
    "read/write/hydrate",
    "read/write-part/discard",
    "read/write-part/write-span",
    "read-block/zero/write-part",
    "write/hydrate/flush",
    "write-part/hydrate/flush",
    "write-span/write-across/flush",
    "write/write-fua/checkpoint",
    "write-pinned/hydrate-pinned/flush",
    "write-pinned/read-pinned/relocate",
    "write-pinned/write-zero/read-short",
    "write-pinned/restore/flush",
    "write-pinned/discard/checkpoint",
    "write-zero/read/read-short",
    "write-zero/write-short/read-pinned",
    "discard/write/flush",
    "discard/hydrate/read-block",
    "relocate/restore/write",
    "relocate/move-journal/flush",
    "restore/move-manifest/write",
    "move-journal/move-superblock/write",
    "move-manifest/move-superblock/flush",
    "move-superblock/checkpoint/write-fua",
    "move-journal/checkpoint/write",
    "write+flush/hydrate",
    "write-part+flush/read",
    "write-part+read-block/hydrate",
    "write+flush/discard",
    "discard+write-part/hydrate",
    "discard+flush/write-pinned",
    "zero+flush/read-short",
    "write-pinned+flush/discard",
    "write-zero+flush/read-short",
    "relocate+write-zero/flush",
    "restore+flush/write-zero",
    "hydrate+write/flush",
    "read-short+write-short/write-zero",
    "move-superblock+move-superblock/write",
    "move-journal+flush/write-span",
    "audit+flush/read",
    "write+discard+flush/read-pinned",
    "write-part+hydrate+write-part/flush",
};

}  // namespace

std::vector<Game> AllPairs(const SmallWorld& world,
                           const SmallWorld::Start* start) {
  std::vector<Game> games;
  for (const SmallWorld::Start& each : world.starts()) {
    if (start != nullptr && start != &each) continue;
    const auto& all = world.operations();
    for (size_t i = 0; i < all.size(); ++i) {
      for (size_t k = i; k < all.size(); ++k) {
        games.push_back(Game{&each, {{&all[i]}, {&all[k]}}});
      }
    }
  }
  return games;
}

std::vector<Game> Triples(const SmallWorld& world,
                          const SmallWorld::Start* start) {
  std::vector<Game> games;
  for (const SmallWorld::Start& each : world.starts()) {
    if (start != nullptr && start != &each) continue;
    for (const std::string_view scripts : kTriples) {
      const std::string name = each.setup.name + ":" + std::string(scripts);
      games.push_back(ParseReplay(world, name).value().game);
    }
  }
  return games;
}

}  // namespace bootstream
