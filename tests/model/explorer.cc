#include "tests/model/explorer.h"

#include <charconv>
#include <cstdio>

namespace bootstream {
namespace {

struct Step {
  size_t choice = 0;
  size_t count = 0;
};
using Path = std::vector<Step>;

std::string Join(const Path& path) {
  std::string text;
  for (const Step& step : path) {
    text += (text.empty() ? "" : ".") + std::to_string(step.choice);
  }
  return text;
}

// Runs along `path` and on in the plain order, which is added to it.  Steps
// before `fresh` have been looked at by an earlier run.
std::string RunAlong(SmallWorld& world, const Game& game, size_t fresh,
                     Path& path, Totals& totals) {
  SmallRun run(world, *game.start, game.scripts, totals.cuts);
  if (fresh == 0) run.TryCuts();
  for (size_t i = 0; run.violation().empty(); ++i) {
    const size_t count = run.choice_count();
    if (count == 0) break;
    if (i == path.size()) path.push_back(Step{0, count});
    if (path[i].count != count) return "the run is not the same again";
    run.Take(path[i].choice);
    ++totals.steps;
    if (i + 1 >= fresh && run.violation().empty()) run.TryCuts();
  }
  if (run.violation().empty()) run.Finish();
  return run.violation();
}

// The next path in depth-first order; false: that was the last one.
bool Next(int deviations_max, Path& path) {
  int deviations = 0;
  for (const Step& step : path) deviations += step.choice != 0 ? 1 : 0;
  for (; !path.empty(); path.pop_back()) {
    Step& last = path.back();
    const bool may =
        last.choice != 0 || deviations_max < 0 || deviations < deviations_max;
    if (may && last.choice + 1 < last.count) {
      ++last.choice;
      return true;
    }
    deviations -= last.choice != 0 ? 1 : 0;
  }
  return false;
}

std::vector<std::string_view> Split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

std::optional<Failure> Explore(SmallWorld& world, const Game& game,
                               const Bounds& bounds, Totals& totals) {
  ++totals.games;
  Path path;
  size_t fresh = 0;
  for (uint64_t i = 0;; ++i) {
    if (i == bounds.schedules) {
      ++totals.cut_short;
      return std::nullopt;
    }
    ++totals.schedules;
    const std::string why = RunAlong(world, game, fresh, path, totals);
    if (!why.empty()) return Failure{NameOf(game) + ":" + Join(path), why};
    if (!Next(bounds.deviations, path)) return std::nullopt;
    fresh = path.size();
  }
}

std::string NameOf(const Game& game) {
  std::string text = game.start->setup.name + ":";
  for (size_t i = 0; i < game.scripts.size(); ++i) {
    if (i > 0) text += '/';
    for (size_t k = 0; k < game.scripts[i].size(); ++k) {
      text += (k > 0 ? "+" : "") + game.scripts[i][k]->name;
    }
  }
  return text;
}

std::optional<Replay> ParseReplay(const SmallWorld& world,
                                  std::string_view text) {
  const auto parts = Split(text, ':');
  if (parts.size() < 2 || parts.size() > 3) return std::nullopt;
  Replay replay;
  replay.game.start = world.FindStart(parts[0]);
  if (replay.game.start == nullptr) return std::nullopt;
  for (const std::string_view script : Split(parts[1], '/')) {
    auto& operations = replay.game.scripts.emplace_back();
    for (const std::string_view name : Split(script, '+')) {
      operations.push_back(world.FindOperation(name));
      if (operations.back() == nullptr) return std::nullopt;
    }
  }
  if (parts.size() == 2 || parts[2].empty()) return replay;
  for (const std::string_view number : Split(parts[2], '.')) {
    size_t choice = 0;
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), choice);
    if (error != std::errc() || end != number.data() + number.size()) {
      return std::nullopt;
    }
    replay.choices.push_back(choice);
  }
  return replay;
}

std::string Run(SmallWorld& world, const Replay& replay) {
  CutsSeen cuts;
  SmallRun run(world, *replay.game.start, replay.game.scripts, cuts);
  run.TryCuts();
  for (size_t i = 0; run.violation().empty(); ++i) {
    const size_t count = run.choice_count();
    if (count == 0) break;
    const size_t choice = i < replay.choices.size() ? replay.choices[i] : 0;
    if (choice >= count) return "there is no such choice";
    std::printf("%3zu: %zu of %zu: %s\n", i, choice, count,
                run.Describe(choice).c_str());
    run.Take(choice);
    if (run.violation().empty()) run.TryCuts();
  }
  if (run.violation().empty()) run.Finish();
  return run.violation();
}

}  // namespace bootstream
