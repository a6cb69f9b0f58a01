// read_image: fetch every chunk of an image over HTTP, compare it with the disk
// that the image was made of, and say how fast that was.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>

#include "blockmap/base/io_loop.h"
#include "blockmap/image/http_chunk_source.h"
#include "blockmap/image/repository_client.h"
#include "imgserver/disk_image.h"

namespace bootstream {
namespace {

struct Options {
  std::string url;
  std::string image;
  std::string public_key;
  std::string disk;
  std::string fetch_class = "backfill";
  unsigned in_flight = 128;
};

int Fail(const Error& error) {
  std::fprintf(stderr, "read_image: %s\n", error.message.c_str());
  return ExitCodeFor(error.code);
}

struct Walk {
  HttpChunkSource& source;
  const DiskImage& disk;
  const Grid grid;
  const FetchClass fetch_class;
  uint64_t next = 0;
  uint64_t differing = 0;
};

Task<Status> Worker(Walk& walk) {
  while (walk.next < walk.grid.chunk_count()) {
    const uint64_t chunk = walk.next++;
    const auto got =
        co_await walk.source.Fetch(ImageChunk{chunk}, walk.fetch_class);
    if (!got) co_return got.error();
    std::vector<std::byte> expected(walk.grid.bytes_of(chunk));
    auto status = walk.disk.Read(walk.grid.offset_of(chunk), expected);
    if (!status) co_return status;
    walk.differing +=
        got->size() != expected.size() ||
        std::memcmp(got->data(), expected.data(), expected.size()) != 0;
  }
  co_return OkStatus();
}

int Run(const Options& options) {
  auto key = PublicKey::Load(options.public_key);
  if (!key) return Fail(key.error());
  TrustedKeys keys;
  keys.Add(std::move(*key));
  const auto reference = ParseImageReference(options.image);
  if (!reference) return Fail(reference.error());
  RepositoryClient::Options client;
  client.servers = {options.url};
  auto fetched = RepositoryClient(client).Fetch(*reference, keys);
  if (!fetched) return Fail(fetched.error());
  const auto disk = DiskImage::Open(options.disk);
  if (!disk) return Fail(disk.error());
  const auto manifest =
      std::make_shared<const Manifest>(std::move(fetched->manifest));
  auto loop = IoLoop::Create();
  if (!loop) return Fail(loop.error());
  FetchOptions fetch;
  fetch.servers = {options.url};
  fetch.give_up_after = std::chrono::seconds(60);
  auto source = HttpChunkSource::Create(**loop, manifest, fetch);
  if (!source) return Fail(source.error());
  Walk walk{**source, *disk, manifest->grid(),
            options.fetch_class == "demand" ? FetchClass::kDemand
                                            : FetchClass::kBackfill};
  std::vector<Task<Status>> workers;
  for (unsigned i = 0; i < options.in_flight; ++i) {
    workers.push_back(Worker(walk));
  }
  const auto began = (*loop)->Now();
  const Status status = (*loop)->RunUntilDone(JoinAll(std::move(workers)));
  if (!status) return Fail(status.error());
  const double seconds =
      std::chrono::duration<double>((*loop)->Now() - began).count();
  const auto statistics = (*source)->statistics();
  const double content = static_cast<double>(manifest->data_chunk_count()) *
                         manifest->grid().chunk_bytes;
  std::printf(
      "%llu chunks differ; %llu requests, %llu retries, %.0f MB "
      "received, %.0f MB/s of content\n",
      static_cast<unsigned long long>(walk.differing),
      static_cast<unsigned long long>(statistics.requests),
      static_cast<unsigned long long>(statistics.retries),
      static_cast<double>(statistics.bytes_received) / 1e6,
      content / 1e6 / seconds);
  return walk.differing == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) {
  CLI::App app("Fetch an image and compare it with its disk.", "read_image");
  bootstream::Options options;
  app.add_option("--url", options.url)->required();
  app.add_option("--image", options.image)->required();
  app.add_option("--pubkey", options.public_key)->required();
  app.add_option("--disk", options.disk)->required();
  app.add_option("--class", options.fetch_class)
      ->check(CLI::IsMember({"demand", "backfill"}));
  app.add_option("--in-flight", options.in_flight);
  CLI11_PARSE(app, argc, argv);
  return bootstream::Run(options);
}
