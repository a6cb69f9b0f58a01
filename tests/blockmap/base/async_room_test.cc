#include "blockmap/base/async_room.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "blockmap/base/task.h"

namespace bootstream {
namespace {

// Takes some, keeps it until it is told.
class Holder {
 public:
  Holder(AsyncRoom& room, uint64_t units) { Spawn(Hold(room, units)); }
  bool has() const { return has_; }
  void Return() { told_.Set(); }

 private:
  Task<void> Hold(AsyncRoom& room, uint64_t units) {
    const auto share = co_await room.Take(units);
    has_ = true;
    co_await told_;
    has_ = false;
  }
  bool has_ = false;
  Event told_;
};

TEST(AsyncRoom, WhoFitsDoesNotWait) {
  AsyncRoom room(10);
  Holder first(room, 4);
  Holder second(room, 6);
  EXPECT_TRUE(first.has());
  EXPECT_TRUE(second.has());
  first.Return();
  second.Return();
}

TEST(AsyncRoom, FirstComeFirstServed) {
  AsyncRoom room(10);
  Holder first(room, 8);
  Holder large(room, 6);
  Holder small(room, 1);  // would fit, and does not overtake
  EXPECT_FALSE(large.has());
  EXPECT_FALSE(small.has());
  first.Return();
  EXPECT_TRUE(large.has());
  EXPECT_TRUE(small.has());
  large.Return();
  small.Return();
}

TEST(AsyncRoom, WhoWantsMoreThanThereIsWaitsUntilAllAreBack) {
  AsyncRoom room(10);
  Holder first(room, 1);
  Holder huge(room, 100);
  Holder next(room, 1);
  EXPECT_FALSE(huge.has());
  first.Return();
  EXPECT_TRUE(huge.has());
  EXPECT_FALSE(next.has());
  huge.Return();
  EXPECT_TRUE(next.has());
  next.Return();
}

}  // namespace
}  // namespace bootstream
