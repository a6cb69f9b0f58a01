#include "tests/crash/agent_scene.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "blockmap/base/posix_block_device.h"
#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/partition_table.h"
#include "blockmap/disk/region_tag.h"
#include "bootagent/migrate.h"
#include "tests/crash/agent_run.h"
#include "tests/crash/recording_device.h"
#include "tests/crash/scratch_disk.h"
#include "tests/crash/stream_client.h"
#include "tests/crash/stream_session.h"
#include "tests/support/fake_chunk_source.h"
#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kChunk = Scene::kChunk;
constexpr uint64_t kDiskBytes = 18 * kMiB + uint64_t{77} * kSectorBytes;
// It reaches beyond the region: what is behind it, the anchor's chunk above
// all, is where metadata would rather be.
constexpr uint64_t kImageBytes = 17 * kMiB;
constexpr uint64_t kUsedChunks = 4 * kMiB / kChunk;  // but for the last one

[[noreturn]] void Give(const std::string& why) {
  std::fprintf(stderr, "agent scene: %s\n", why.c_str());
  std::abort();
}

template <typename T>
T Must(Result<T> result, const char* what) {
  if (!result) Give(std::string(what) + ": " + result.error().message);
  return std::move(*result);
}

// Gone when it goes out of scope.
class Workshop {
 public:
  Workshop() {
    char name[] = "/dev/shm/bootstream-crash-XXXXXX";
    if (::mkdtemp(name) == nullptr) Give("mkdtemp");
    directory_ = name;
  }
  ~Workshop() { std::filesystem::remove_all(directory_); }
  std::string Path(const char* name) const { return directory_ + "/" + name; }
  void Do(const std::string& command) const {
    const std::string line = "cd " + directory_ +
                             " && PATH=$PATH:/usr/sbin:/sbin && (" + command +
                             ") >log 2>&1";
    if (std::system(line.c_str()) == 0) return;
    std::system(("cat " + Path("log") + " >&2").c_str());
    Give(command);
  }
  std::vector<std::byte> Load(const char* name) const {
    std::vector<std::byte> bytes(std::filesystem::file_size(Path(name)));
    std::ifstream in(Path(name), std::ios::binary);
    in.read(reinterpret_cast<char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
    if (!in) Give(Path(name));
    return bytes;
  }

 private:
  std::string directory_;
};

void MakeSource(const Workshop& shop) {
  shop.Do("truncate -s " + std::to_string(kDiskBytes) +
          " disk && printf 'label: gpt\\nstart=2048, size=4096, type=U\\n"
          "start=6144, size=28672, type=L\\n' | sfdisk -q disk &&"
          "mkdir tree && for i in $(seq 24); do"
          " head -c 100000 /dev/urandom > tree/f$i; done &&"
          "mkfs.vfat --offset 2048 disk 2048 &&"
          "mkfs.ext4 -q -E offset=3145728 -d tree disk 14M");
}

void Fill(std::vector<std::byte>& image, uint64_t from, uint64_t to,
          uint64_t seed) {
  const auto bytes = RandomBytes(to - from, seed);
  std::memcpy(image.data() + from, bytes.data(), bytes.size());
}

// ESP from 1 MiB, /boot from 2 MiB, root from 3 MiB; none of them full.
void MakeImage(const Workshop& shop, Scene& scene) {
  shop.Do("truncate -s " + std::to_string(kImageBytes) +
          " image && printf 'label: gpt\\nstart=2048, size=2048, type=U\\n"
          "start=4096, size=2048, type=L\\nstart=6144, size=28524, type=L\\n' |"
          " sfdisk -q image");
  scene.image = shop.Load("image");
  Fill(scene.image, kMiB, kMiB + 5 * kChunk + 7000, 1);
  Fill(scene.image, 2 * kMiB, 2 * kMiB + 7 * kChunk + 5000, 2);
  Fill(scene.image, 3 * kMiB, 3 * kMiB + 6 * kChunk, 3);
  Fill(scene.image, 3 * kMiB + 9 * kChunk, 3 * kMiB + 14 * kChunk, 4);
  ScratchDisk disk(scene.image);
  const auto table = Must(RunInline(ReadPartitionTable(disk)), "image's table");
  ManifestContent content = DescribeImage(scene.image, kChunk);
  content.name = "new";
  content.version = "13.1";
  content.boot_set = {
      {0, 1}, {16, 6}, {32, 8}, {48, 1}, {kImageBytes / kChunk - 1, 1}};
  content.pinned = {{16, 16}, {32, 16}};
  content.tables = table.table_extents;
  content.table_id = table.id;
  scene.manifest = std::make_shared<const Manifest>(
      SignAndOpen(content, &scene.manifest_file));
}

class NewImage final : public ImageAccess {
 public:
  explicit NewImage(const Scene& scene)
      : scene_(scene), source_(scene.image, kChunk) {}
  Task<Result<ManifestFile>> FetchManifest() override {
    co_return ManifestFile{scene_.manifest, scene_.manifest_file};
  }
  Result<ChunkSource*> Source(std::shared_ptr<const Manifest>,
                              const std::vector<std::string>&) override {
    return &source_;
  }

 private:
  const Scene& scene_;
  FakeChunkSource source_;
};

void ReleaseDisk(const Workshop& shop, AgentScene& agent) {
  Scene& scene = agent.scene;
  auto device = Must(
      PosixBlockDevice::Open(shop.Path("disk"), OpenMode::kReadWrite), "open");
  StopPoints stops("released");
  Progress progress(stderr, Progress::Style::kSilent);
  const Job job{shop.Path("disk"), device, {}, stops, progress, 32};
  MigrateOptions options;
  options.image_name = "new";
  options.plan.headroom_bytes = 0;
  options.plan.when_full = WhenFull::kBlock;
  options.plan.journal_chunks = 1;
  options.plan.spare_chunks = 2;
  NewImage access(scene);
  const Status status = RunInline(Migrate(job, options, access));
  if (status || status.error().code != ErrorCode::kUnavailable) {
    Give("release: " + (status ? "went on" : status.error().message));
  }
  const auto located = Must(RunInline(Locate(job)), "locate");
  if (!located.superblock) Give("nothing was released");
  const auto opened =
      Must(RunInline(OpenMigration(job, *located.superblock, true)), "open");
  scene.region = opened.store->region().base();
  agent.first = *located.superblock;
}

// Another state that the chunk may have, without another place.
ChunkState Another(const ChunkState& state) {
  if (state.location.is_absent()) return {Location::Zero(), 0, 0};
  const uint64_t lowest = state.valid & (~state.valid + 1);
  return {state.location, state.valid, state.dirty ^ lowest};
}

UniqueFd Seal(const std::vector<std::byte>& bytes) {
  UniqueFd fd(::memfd_create("released", MFD_ALLOW_SEALING | MFD_CLOEXEC));
  for (size_t done = 0; fd && done < bytes.size();) {
    const ssize_t put =
        ::write(fd.get(), bytes.data() + done, bytes.size() - done);
    if (put <= 0) Give("write");
    done += static_cast<size_t>(put);
  }
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
  if (!fd || ::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) Give("memfd");
  return fd;
}

void TagAnew(const Workshop& shop, const Superblock& first) {
  RegionTag tag{first.chunk_bytes, {}, first.superblock_chunks};
  tag.migration_id.fill(std::byte{0x77});
  const ByteExtent fs{first.source_fs_offset,
                      kDiskBytes - first.source_fs_offset};
  const Status status =
      WriteRegionTag(shop.Path("disk"), fs, kRegionFileName, tag);
  if (!status) Give("tag: " + status.error().message);
}

std::string PathOf(const UniqueFd& fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}

}  // namespace

bool CanMakeAgentScenes() {
  return ::geteuid() == 0 && ::access("/dev/loop-control", W_OK) == 0;
}

std::shared_ptr<const AgentScene> ReleasedScene() {
  static const auto made = [] {
    auto agent = std::make_shared<AgentScene>();
    const Workshop shop;
    MakeSource(shop);
    MakeImage(shop, agent->scene);
    ReleaseDisk(shop, *agent);
    agent->scene.source = shop.Load("disk");
    agent->scene.SetDisk(agent->scene.source);
    agent->sealed = Seal(agent->scene.disk);
    agent->path = PathOf(agent->sealed);
    TagAnew(shop, agent->first);
    agent->sealed_anew = Seal(shop.Load("disk"));
    agent->path_anew = PathOf(agent->sealed_anew);
    return agent;
  }();
  return made;
}

Scene ArmedScene(const AgentScene& released) {
  ScratchDisk disk(released.scene.disk);
  const AgentRun agent(released.scene, released.path, 64);
  const Status status = agent.Migrate(disk);
  if (!status) Give("migrate: " + status.error().message);
  Scene armed = released.scene;
  armed.SetDisk(disk.bytes());
  return armed;
}

void ParkScene(const AgentScene& released, Scene& scene) {
  ScratchDisk disk(scene.disk);
  const AgentRun agent(scene, released.path, 64);
  const Status status = agent.Rollback(disk);
  if (!status) Give("rollback: " + status.error().message);
  scene.SetDisk(disk.bytes());
}

void UseUpJournal(const AgentScene& released, uint64_t commits, Scene& scene) {
  ScratchDisk disk(scene.disk);
  const AgentRun agent(scene, released.path, 1);
  StreamSession::Options options;
  options.starts = false;
  options.superblock = Must(agent.Find(disk), "find");
  {
    auto session =
        Must(StreamSession::Open(disk, scene.image, options), "open");
    MapStore& store = session->store();
    const ImageChunk chunk{scene.manifest->content().boot_set[1].first};
    const ChunkState state = store.map().Get(chunk);
    for (uint64_t i = 0; i < commits; ++i) {
      store.SetChunk(chunk, Another(state));
      store.SetChunk(chunk, state);
      if (!RunInline(store.Commit())) Give("commit");
    }
  }
  scene.SetDisk(disk.bytes());
}

LivedScene StreamedScene(const Scene& armed, uint64_t operations,
                         uint64_t seed) {
  RecordingDevice device(armed.disk);
  TargetModel model(armed.image);
  StreamClientOptions options;
  options.operations = operations;
  for (uint64_t c = 0; c < kUsedChunks; ++c) {
    options.written_chunks.push_back(c);
  }
  {
    auto session = Must(StreamSession::Open(device, armed.image, {}), "open");
    StreamClient client(device, *session, model, options, seed);
    const std::string wrong = client.Run();
    if (!wrong.empty()) Give("streaming: " + wrong);
    if (seed % 2 == 0) session->BackfillToEnd();
  }
  LivedScene lived{armed, model.LatestContent()};
  lived.scene.SetDisk(device.bytes());
  return lived;
}

}  // namespace bootstream
