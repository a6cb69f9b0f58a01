#ifndef TESTS_BLOCKMAP_IMAGE_HTTP_SOURCE_FIXTURE_H_
#define TESTS_BLOCKMAP_IMAGE_HTTP_SOURCE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "blockmap/base/io_loop.h"
#include "blockmap/image/http_chunk_source.h"
#include "blockmap/image/pack.h"
#include "tests/support/fake_image.h"
#include "tests/support/test_http_server.h"

namespace bootstream {

using Fault = TestHttpServer::Fault;
using Request = TestHttpServer::Request;
using std::chrono::milliseconds;

inline constexpr uint64_t kChunk = kChunkBytesMin;
inline constexpr uint64_t kChunks = 24;  // and a short one

// An image of random bytes with one zero chunk, in one pack, on two servers of
// which only the first is asked unless a test says otherwise.
class HttpChunkSourceTest : public testing::Test {
 protected:
  HttpChunkSourceTest()
      : loop_(std::move(*IoLoop::Create())),
        image_(RandomBytes(kChunks * kChunk + 8192, 7)) {
    std::memset(image_.data() + 5 * kChunk, 0, kChunk);
    manifest_ = std::make_shared<Manifest>(
        SignAndOpen(DescribeImage(image_, kChunk, &pack_)));
    path_ = PackPath(manifest_->content().packs[0].digest);
    for (auto* server : {&server_, &other_}) server->Put(path_, pack_);
    options_.servers = {server_.url()};
    options_.stall_timeout = milliseconds(300);
  }

  void Open() {
    source_ = std::move(*HttpChunkSource::Create(*loop_, manifest_, options_));
  }
  Result<AlignedBuffer> Fetch(uint64_t chunk,
                              FetchClass fetch_class = FetchClass::kDemand) {
    return loop_->RunUntilDone(source_->Fetch(ImageChunk{chunk}, fetch_class));
  }
  bool IsRight(uint64_t chunk, const Result<AlignedBuffer>& got) const {
    const Grid grid = manifest_->grid();
    return got && got->size() == grid.bytes_of(chunk) &&
           std::memcmp(got->data(), image_.data() + grid.offset_of(chunk),
                       got->size()) == 0;
  }
  // All chunks at once; the number of those that came right.
  size_t FetchAll(FetchClass fetch_class = FetchClass::kDemand) {
    size_t right = 0;
    std::vector<Task<Status>> tasks;
    for (uint64_t chunk = 0; chunk <= kChunks; ++chunk) {
      tasks.push_back(FetchOne(chunk, fetch_class, right));
    }
    EXPECT_TRUE(loop_->RunUntilDone(JoinAll(std::move(tasks))));
    return right;
  }
  Task<Status> FetchOne(uint64_t chunk, FetchClass fetch_class, size_t& right) {
    const auto got = co_await source_->Fetch(ImageChunk{chunk}, fetch_class);
    right += IsRight(chunk, got);
    if (!got) co_return got.error();
    co_return OkStatus();
  }
  // A fault for the first `count` requests.
  static std::function<Fault(const Request&)> First(size_t count, Fault fault) {
    return [=](const Request& request) {
      return request.number < count ? fault : Fault::kNone;
    };
  }

  std::unique_ptr<IoLoop> loop_;
  std::vector<std::byte> image_;
  std::vector<std::byte> pack_;
  std::shared_ptr<Manifest> manifest_;
  std::string path_;
  TestHttpServer server_;
  TestHttpServer other_;
  FetchOptions options_;
  std::unique_ptr<HttpChunkSource> source_;
};

}  // namespace bootstream

#endif  // TESTS_BLOCKMAP_IMAGE_HTTP_SOURCE_FIXTURE_H_
