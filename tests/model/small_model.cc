// Tries every order in which things can happen to a tiny disk; see
// small_world.h for the disk and explorer.h for how.

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/model/explorer.h"
#include "tests/model/games.h"

namespace bootstream {
namespace {

struct Options {
  std::string replay;
  std::string start;
  bool pairs_only = false;
  bool triples_only = false;
  int deviations = -1;
  int triple_deviations = 3;
  uint64_t schedules = 200'000;
  bool keep_going = false;
};

int PlayAll(SmallWorld& world, const char* what, const std::vector<Game>& games,
            const Bounds& bounds, bool keep_going) {
  int failed = 0;
  Totals totals;
  const SmallWorld::Start* start = nullptr;
  const auto print = [&] {
    if (start == nullptr) return;
    std::printf(
        "%-8s from %-10s games %llu, schedules %llu, steps %llu, power cuts "
        "%llu (distinct %zu), games cut short %llu\n",
        what, start->setup.name.c_str(),
        static_cast<unsigned long long>(totals.games),
        static_cast<unsigned long long>(totals.schedules),
        static_cast<unsigned long long>(totals.steps),
        static_cast<unsigned long long>(totals.cuts.tried),
        totals.cuts.keys.size(),
        static_cast<unsigned long long>(totals.cut_short));
    std::fflush(stdout);
  };
  for (const Game& game : games) {
    if (game.start != start) {
      print();
      start = game.start;
      totals = Totals();
    }
    const auto failure = Explore(world, game, bounds, totals);
    if (!failure) continue;
    ++failed;
    std::printf("FAILED %s\n       --replay %s\n", failure->why.c_str(),
                failure->replay.c_str());
    std::fflush(stdout);
    if (!keep_going) break;
  }
  print();
  return failed;
}

int Main(const Options& options) {
  SmallWorld world;
  if (!options.replay.empty()) {
    const auto replay = ParseReplay(world, options.replay);
    if (!replay) {
      std::fprintf(stderr, "small_model: '%s' names nothing\n",
                   options.replay.c_str());
      return 2;
    }
    const std::string why = Run(world, *replay);
    std::printf("%s\n", why.empty() ? "nothing was wrong" : why.c_str());
    return why.empty() ? 0 : 1;
  }
  const SmallWorld::Start* start = nullptr;
  if (!options.start.empty()) {
    start = world.FindStart(options.start);
    if (start == nullptr) {
      std::fprintf(stderr, "small_model: there is no setup '%s'\n",
                   options.start.c_str());
      return 2;
    }
  }
  int failed = 0;
  if (!options.triples_only) {
    failed += PlayAll(world, "pairs", AllPairs(world, start),
                      Bounds{options.deviations, options.schedules},
                      options.keep_going);
  }
  if (!options.pairs_only && (failed == 0 || options.keep_going)) {
    failed += PlayAll(world, "triples", Triples(world, start),
                      Bounds{options.triple_deviations, options.schedules},
                      options.keep_going);
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) {
  bootstream::Options options;
  CLI::App app(
      "Tries every order in which requests, replies and power cuts can meet on "
      "a tiny disk.\nWithout options: all pairs of operations from all setups, "
      "without bound, then chosen triples with a few deviations.");
  app.add_option("--replay", options.replay,
                 "do one run again, as a failure prints it");
  app.add_option("--start", options.start, "this setup only");
  app.add_flag("--pairs", options.pairs_only, "no triples");
  app.add_flag("--triples", options.triples_only, "no pairs");
  app.add_option("--deviations", options.deviations,
                 "bound for pairs; negative: none");
  app.add_option("--triple-deviations", options.triple_deviations,
                 "bound for triples");
  app.add_option("--schedules", options.schedules, "at most, of one game");
  app.add_flag("--keep-going", options.keep_going,
               "go on with the next game after a failure");
  CLI11_PARSE(app, argc, argv);
  return bootstream::Main(options);
}
