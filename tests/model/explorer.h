#ifndef TESTS_MODEL_EXPLORER_H_
#define TESTS_MODEL_EXPLORER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/model/small_run.h"
#include "tests/model/small_world.h"

namespace bootstream {

// Scripts over one setup.
struct Game {
  const SmallWorld::Start* start = nullptr;
  Scripts scripts;
};

struct Bounds {
  // How often a run may leave the plain order (the oldest request completes
  // first, a script begins when nothing else can happen); negative: no bound.
  int deviations = -1;
  // Runs of one game; what exceeds it is counted as cut short.
  uint64_t schedules = 1'000'000;
};

struct Totals {
  uint64_t games = 0;
  uint64_t cut_short = 0;
  uint64_t schedules = 0;
  uint64_t steps = 0;
  CutsSeen cuts;
};

struct Failure {
  std::string replay;  // for ParseReplay
  std::string why;
};

// Try every order in which `game` can go within `bounds`, with a power cut
// after each step.  The first failure ends it.
std::optional<Failure> Explore(SmallWorld& world, const Game& game,
                               const Bounds& bounds, Totals& totals);

// "SETUP:OPERATION+OPERATION/OPERATION:0.3.1", the choices may be missing;
// nullopt: it names something that is not there.
struct Replay {
  Game game;
  std::vector<size_t> choices;
};
std::optional<Replay> ParseReplay(const SmallWorld& world,
                                  std::string_view text);
std::string NameOf(const Game& game);

// Do one run again and print each step; empty, or what was wrong.
std::string Run(SmallWorld& world, const Replay& replay);

}  // namespace bootstream

#endif  // TESTS_MODEL_EXPLORER_H_
