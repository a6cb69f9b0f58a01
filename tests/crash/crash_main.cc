#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "tests/crash/agent_phases.h"
#include "tests/crash/agent_scene.h"
#include "tests/crash/resume_workload.h"
#include "tests/crash/simulator.h"
#include "tests/crash/stream_phases.h"

namespace bootstream {
namespace {

constexpr int kSkipped = 77;
const std::string kResume = "resume-";

struct Arguments {
  Simulator::Options simulator;
  uint64_t count = 0;
  uint64_t at_least = 0;
  uint64_t operations = 120;
  uint64_t resumes = 3;
  std::string part;
  std::vector<std::string> phases;
  std::string only;
  std::string json;
};

// All phases, and the recovery from each as a phase of its own.
std::vector<PhaseOfLife> AllPhases(const Arguments& arguments) {
  std::vector<PhaseOfLife> all;
  if (arguments.part != "driver") all = AgentPhases(arguments.operations);
  if (arguments.part != "agent") {
    for (PhaseOfLife& phase : StreamPhases(arguments.operations)) {
      all.push_back(std::move(phase));
    }
  }
  const size_t count = all.size();
  for (size_t i = 0; i < count; ++i) {
    const auto make = [first = all[i].make](uint64_t seed) {
      return std::make_unique<ResumeWorkload>(first(seed), seed);
    };
    all.push_back({kResume + all[i].name, make});
  }
  return all;
}

std::vector<PhaseOfLife> ChosenPhases(const Arguments& arguments) {
  std::vector<PhaseOfLife> chosen;
  for (PhaseOfLife& phase : AllPhases(arguments)) {
    const auto& names = arguments.phases;
    if (names.empty() || std::ranges::find(names, phase.name) != names.end()) {
      chosen.push_back(std::move(phase));
    }
  }
  return chosen;
}

// PHASE:ROUND:POINT:STATE
bool ReadOnly(Arguments& arguments, Simulator::Only& only) {
  const size_t colon = arguments.only.find(':');
  if (colon == std::string::npos) return false;
  arguments.phases = {arguments.only.substr(0, colon)};
  unsigned long long round = 0, point = 0, number = 0;
  if (std::sscanf(arguments.only.c_str() + colon, ":%llu:%llu:%llu", &round,
                  &point, &number) != 3) {
    return false;
  }
  only = {round, point, number};
  return true;
}

nlohmann::json Figures(const Simulator& simulator, const Arguments& arguments) {
  nlohmann::json json{{"kind", "crash"},
                      {"tried", 0},
                      {"failed", simulator.violations()},
                      {"distinct", simulator.distinct()},
                      {"seed", arguments.simulator.seed}};
  uint64_t tried = 0;
  for (const auto& [name, figures] : simulator.phases()) {
    json["phases"][name] = {{"points", figures.points},
                            {"whole", figures.whole},
                            {"enough", figures.enough},
                            {"fewer", figures.fewer},
                            {"tried", figures.tried},
                            {"distinct", figures.distinct},
                            {"violations", figures.violations},
                            {"rounds", figures.rounds},
                            {"did", figures.tally}};
    tried += figures.tried;
  }
  json["tried"] = tried;
  return json;
}

using Wide = unsigned long long;

void Print(const Simulator& simulator) {
  for (const auto& [name, figures] : simulator.phases()) {
    std::printf(
        "%-25s flush points %5llu (whole %llu, enough %llu, fewer %llu)  "
        "states %7llu  distinct %7llu  violations %llu  (%.1f s)\n",
        name.c_str(), Wide{figures.points}, Wide{figures.whole},
        Wide{figures.enough}, Wide{figures.fewer}, Wide{figures.tried},
        Wide{figures.distinct}, Wide{figures.violations}, figures.seconds);
    std::string did;
    for (const auto& [what, times] : figures.tally) {
      did += "    " + what + " " + std::to_string(times);
    }
    if (!did.empty()) std::printf("%s\n", did.c_str());
  }
  std::printf("distinct states %llu, violations %llu\n",
              Wide{simulator.distinct()}, Wide{simulator.violations()});
}

// The program's exit code.
int Finish(const Simulator& simulator, const Arguments& arguments) {
  Print(simulator);
  if (!arguments.json.empty()) {
    std::ofstream(arguments.json) << Figures(simulator, arguments) << "\n";
  }
  const bool whole = arguments.only.empty();
  if (whole && simulator.distinct() < arguments.at_least) {
    std::fprintf(stderr,
                 "crash_simulator: only %llu distinct states, and there must "
                 "be at least %llu\n",
                 Wide{simulator.distinct()}, Wide{arguments.at_least});
    return 1;
  }
  return simulator.violations() == 0 ? 0 : 1;
}

int Run(Arguments arguments) {
  if (arguments.part != "driver" && !CanMakeAgentScenes()) {
    std::fprintf(stderr, "needs root and loop devices\n");
    return kSkipped;
  }
  std::optional<Simulator::Only> only;
  if (!arguments.only.empty()) {
    only = Simulator::Only{};
    if (!ReadOnly(arguments, *only)) {
      std::fprintf(stderr, "--only: PHASE:ROUND:POINT:STATE\n");
      return 2;
    }
  }
  const auto phases = ChosenPhases(arguments);
  if (phases.empty()) {
    std::fprintf(stderr, "there is no such phase\n");
    return 2;
  }
  Simulator simulator(arguments.simulator);
  uint64_t round = only ? only->round : 0;
  do {
    for (const PhaseOfLife& phase : phases) {
      // Of a recovery from one state there is little to see.
      const bool once = only || !phase.name.starts_with(kResume);
      const uint64_t runs = once ? 1 : arguments.resumes;
      const uint64_t first = once ? round : round * runs;
      for (uint64_t i = 0; i < runs; ++i) {
        simulator.RunRound(phase, first + i, only);
      }
    }
    ++round;
  } while (!only && simulator.distinct() < arguments.count);
  if (!only) simulator.JudgePhases();
  return Finish(simulator, arguments);
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) {
  bootstream::Arguments arguments;
  CLI::App app(
      "Cut the power at every flush of the agent and the driver, and check "
      "what "
      "is left.");
  app.add_option("--seed", arguments.simulator.seed, "do the same again");
  app.add_option("--count", arguments.count,
                 "rounds until so many distinct states; 0: one round");
  app.add_option("--at-least", arguments.at_least,
                 "fail if there are fewer distinct states in the end");
  app.add_option("--states", arguments.simulator.states_per_point,
                 "states for each flush");
  app.add_option("--operations", arguments.operations,
                 "requests in one run of the driver");
  app.add_option("--resumes", arguments.resumes,
                 "power cuts in a round whose recovery is cut as well");
  app.add_option("--part", arguments.part, "agent or driver; else both")
      ->check(CLI::IsMember({"agent", "driver"}));
  app.add_option("--phase", arguments.phases, "only this one (repeatable)");
  app.add_option("--only", arguments.only, "PHASE:ROUND:POINT:STATE");
  app.add_option("--json", arguments.json, "write the figures");
  CLI11_PARSE(app, argc, argv);
  return bootstream::Run(std::move(arguments));
}
