#include "blockmap/image/frame_workers.h"

#include <gtest/gtest.h>

#include <future>
#include <vector>

namespace bootstream {
namespace {

FrameKey KeyOf(uint64_t offset) { return {.offset = offset}; }

// One worker, which the first frame keeps busy until everything is queued.
class FrameWorkersTest : public testing::Test {
 protected:
  FrameWorkersTest()
      : workers_(1, [this](FrameWorkers::Job job, Result<AlignedBuffer>) {
          if (job.frame.key == KeyOf(0)) {
            begun_.set_value();
            queued_.get_future().wait();
          }
          order_.push_back(job.frame.key.offset);
          if (order_.size() == wanted_) done_.set_value();
        }) {
    Add(0, FetchClass::kDemand);
    begun_.get_future().wait();
  }
  // A frame of rubbish: what comes of it does not matter here.
  void Add(uint64_t offset, FetchClass fetch_class) {
    FrameWorkers::Job job;
    job.frame.key = KeyOf(offset);
    job.frame.fetch_class = fetch_class;
    workers_.Add(std::move(job));
  }
  // The order in which `count` frames behind the first one are done.
  std::vector<uint64_t> Order(size_t count) {
    wanted_ = count + 1;
    queued_.set_value();
    done_.get_future().wait();
    return {order_.begin() + 1, order_.end()};
  }

  std::promise<void> begun_;
  std::promise<void> queued_;
  std::promise<void> done_;
  std::vector<uint64_t> order_;  // the worker's, until it is done
  size_t wanted_ = 0;            // set before `queued_`
  FrameWorkers workers_;
};

TEST_F(FrameWorkersTest, BetterClassesGoFirstAndWaitTheirTurnInOne) {
  Add(1, FetchClass::kBackfill);
  Add(2, FetchClass::kReadAhead);
  Add(3, FetchClass::kDemand);
  Add(4, FetchClass::kPrefetch);
  Add(5, FetchClass::kDemand);
  EXPECT_EQ(Order(5), (std::vector<uint64_t>{3, 5, 4, 2, 1}));
}

TEST_F(FrameWorkersTest, PromotedFrameOvertakes) {
  Add(1, FetchClass::kPrefetch);
  Add(2, FetchClass::kBackfill);
  EXPECT_TRUE(workers_.Promote(KeyOf(2), FetchClass::kDemand));
  EXPECT_TRUE(workers_.Promote(KeyOf(2), FetchClass::kBackfill));  // never back
  EXPECT_FALSE(workers_.Promote(KeyOf(3), FetchClass::kDemand));
  EXPECT_EQ(Order(2), (std::vector<uint64_t>{2, 1}));
}

}  // namespace
}  // namespace bootstream
