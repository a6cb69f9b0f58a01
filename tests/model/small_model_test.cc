#include <gtest/gtest.h>

#include <cstdio>

#include "tests/model/explorer.h"
#include "tests/model/games.h"

namespace bootstream {
namespace {

// The quick form of the program small_model.
class SmallModelTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { world_ = new SmallWorld; }
  static void TearDownTestSuite() { delete world_; }

  static void Play(const std::vector<Game>& games, const Bounds& bounds,
                   uint64_t schedules_at_least) {
    Totals totals;
    for (const Game& game : games) {
      const auto failure = Explore(*world_, game, bounds, totals);
      ASSERT_FALSE(failure) << failure->why << "\nagain: small_model --replay "
                            << failure->replay;
    }
    EXPECT_EQ(totals.cut_short, 0U);
    EXPECT_GE(totals.schedules, schedules_at_least);
    std::printf("%zu games, %llu schedules, %llu power cuts, %zu distinct\n",
                games.size(), static_cast<unsigned long long>(totals.schedules),
                static_cast<unsigned long long>(totals.cuts.tried),
                totals.cuts.keys.size());
  }
  static SmallWorld* world_;
};
SmallWorld* SmallModelTest::world_ = nullptr;

TEST_F(SmallModelTest, PairsOfOperationsInEveryOrder) {
  Play(AllPairs(*world_), Bounds{1, 1000}, 10'000);
}

TEST_F(SmallModelTest, TriplesOfOperations) {
  Play(Triples(*world_), Bounds{1, 1000}, 1'000);
}

TEST_F(SmallModelTest, ReplayNamesAreReadBack) {
  const auto replay = ParseReplay(*world_, "clean:write+flush/hydrate:0.1.0.0");
  ASSERT_TRUE(replay);
  EXPECT_EQ(NameOf(replay->game), "clean:write+flush/hydrate");
  EXPECT_EQ(replay->choices, (std::vector<size_t>{0, 1, 0, 0}));
  EXPECT_FALSE(ParseReplay(*world_, "clean:write+nothing"));
  EXPECT_FALSE(ParseReplay(*world_, "nowhere:write"));
  EXPECT_FALSE(ParseReplay(*world_, "clean:write:0.x"));
}

}  // namespace
}  // namespace bootstream
