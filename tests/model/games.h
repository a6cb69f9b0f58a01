#ifndef TESTS_MODEL_GAMES_H_
#define TESTS_MODEL_GAMES_H_

#include <vector>

#include "tests/model/explorer.h"

namespace bootstream {

// Every pair of operations from every setup; `start` alone if it is given.
std::vector<Game> AllPairs(const SmallWorld& world,
                           const SmallWorld::Start* start = nullptr);
// Three at once, and pairs of which one goes on: what overlaps in ways that two
// cannot.
std::vector<Game> Triples(const SmallWorld& world,
                          const SmallWorld::Start* start = nullptr);

}  // namespace bootstream

#endif  // TESTS_MODEL_GAMES_H_
