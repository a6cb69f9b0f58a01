#ifndef TESTS_CRASH_SIMULATOR_H_
#define TESTS_CRASH_SIMULATOR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "tests/crash/crash_states.h"
#include "tests/crash/workload.h"

namespace bootstream {

// Records workloads, cuts the power at every flush of each, builds the disks
// that may be left and has them checked.
class Simulator {
 public:
  struct Options {
    uint64_t seed = 1;
    // States to try at each flush: as many, or all that there are.
    uint64_t states_per_point = 50;
    uint64_t violations_shown = 5;
  };
  // Which state to try: round, point, number.
  struct Only {
    uint64_t round = 0;
    uint64_t point = 0;
    uint64_t number = 0;
  };
  struct Figures {
    uint64_t points = 0;  // flushes, and ends; each is one of:
    uint64_t whole = 0;   // every disk that it may leave was tried
    uint64_t enough = 0;  // as many as were asked for
    uint64_t fewer = 0;   // not so many were found
    uint64_t tried = 0;
    uint64_t distinct = 0;
    uint64_t violations = 0;
    double seconds = 0;
    uint64_t rounds = 0;
    Tally tally;
  };

  explicit Simulator(Options options) : options_(options) {}

  // One run of the phase's workload, from the seed and the `round`.
  void RunRound(const PhaseOfLife& phase, uint64_t round,
                const std::optional<Only>& only = {});

  // No more rounds: a phase that never did what it must is a violation.
  void JudgePhases();

  // In the order of their first round.
  struct PhaseFigures {
    std::string name;
    Figures figures;
  };
  std::vector<PhaseFigures> phases() const;
  // Of all phases: disks that several of them have count once.
  uint64_t distinct() const { return seen_.size(); }
  uint64_t violations() const;

 private:
  struct PhaseState {
    PhaseOfLife life;
    Figures figures = {};
    std::unordered_set<uint64_t> seen = {};  // hashes of disks
  };
  PhaseState& StateOf(const PhaseOfLife& life);
  struct Round {
    PhaseState& phase;
    Workload& workload;
    ScratchDisk& disk;  // with what is durable
    uint64_t number = 0;
    std::optional<Only> only;
  };
  void TryPoint(const Round& round, uint64_t index, const CrashPoint& point,
                uint64_t disk_hash);
  void TryState(const Round& round, const Cut& cut, const Only& where);
  void Report(PhaseState& phase, const Only& where, const std::string& what);

  Options options_;
  std::vector<PhaseState> phases_;
  std::unordered_set<uint64_t> seen_;
};

// A seed for one thing of many that depend on `seed`.
uint64_t MixSeed(uint64_t seed, uint64_t number);

}  // namespace bootstream

#endif  // TESTS_CRASH_SIMULATOR_H_
