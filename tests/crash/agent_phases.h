#ifndef TESTS_CRASH_AGENT_PHASES_H_
#define TESTS_CRASH_AGENT_PHASES_H_

#include <vector>

#include "tests/crash/workload.h"

namespace bootstream {

// The agent's phases, over a real small disk (agent_scene.h):
//   laydown             a new map in the region file, empty or with an old one
//   migrate             from released to armed
//   rollback-armed      back from a target that never ran
//   rollback-streaming  back from one that has written for `operations`
//   return              to that target, after it was parked
// The number of chunks in a batch is drawn, and how much of the journal is used
// up when the agent begins.
std::vector<PhaseOfLife> AgentPhases(uint64_t operations);

}  // namespace bootstream

#endif  // TESTS_CRASH_AGENT_PHASES_H_
