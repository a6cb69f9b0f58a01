#include "initramfs/driver/driver.h"

#include <filesystem>
#include <iostream>
#include <utility>

#include "blockmap/disk/disk_serial.h"
#include "blockmap/disk/find_migration.h"
#include "initramfs/frontend/fuse_frontend.h"
#include "initramfs/frontend/nbd_frontend.h"
#include "initramfs/frontend/socket_frontend.h"

namespace bootstream {
namespace {

using nlohmann::json;

constexpr auto kStatusInterval = std::chrono::seconds(1);

// Whether the driver may serve a disk in this phase.
Status CheckPhase(const Superblock& superblock, bool read_only) {
  const Phase phase = superblock.phase;
  const bool runs = phase >= Phase::kArmed && phase <= Phase::kSettled;
  if (runs) return OkStatus();
  const bool whole = phase >= Phase::kStaged && phase <= Phase::kWritten;
  if (read_only && whole) return OkStatus();
  return Error{ErrorCode::kRefused,
               "the migration is '" + std::string(PhaseName(phase)) +
                   "': the disk is between two systems; boot the agent to "
                   "finish or to go back"};
}

// A failure shows when the socket is made.
void MakeParentDirectory(const std::string& path) {
  std::error_code ignored;
  std::filesystem::create_directories(
      std::filesystem::path(path).parent_path(), ignored);
}

}  // namespace

ImageFacts FactsOf(std::shared_ptr<const Manifest> manifest) {
  const Grid grid = manifest->grid();
  return ImageFacts{
      grid, [manifest](ImageChunk chunk) { return manifest->IsZero(chunk); },
      [manifest](ImageChunk chunk) {
        return manifest->InBootSet(chunk) || manifest->IsPinned(chunk);
      }};
}

StreamDriver::~StreamDriver() = default;

Task<Result<std::unique_ptr<StreamDriver>>> StreamDriver::Open(
    IoLoop& loop, UniqueFd disk, DriverOptions options) {
  std::unique_ptr<StreamDriver> driver(
      new StreamDriver(loop, std::move(options)));
  Status status = co_await driver->OpenMap(std::move(disk));
  if (!status) co_return status.error();
  co_return driver;
}

Task<Status> StreamDriver::OpenMap(UniqueFd disk) {
  auto device = UringBlockDevice::Adopt(loop_, std::move(disk));
  if (!device) co_return device.error();
  device_ = std::move(*device);
  auto found =
      co_await FindMigration(*device_, DiskSerialSha256(options_.disk));
  if (!found) co_return found.error();
  for (const std::string& warning : found->warnings) {
    std::cerr << "streamd: " << options_.disk << ": " << warning << "\n";
  }
  if (!found->superblock) {
    co_return Error{ErrorCode::kNotFound,
                    "there is no migration on " + options_.disk};
  }
  const Superblock superblock = std::move(*found->superblock);
  if (auto s = CheckPhase(superblock, options_.read_only); !s) co_return s;
  auto file = co_await MapStore::ReadManifest(*device_, superblock);
  if (!file) co_return file.error();
  auto manifest = OpenManifest(*file);
  if (!manifest) co_return manifest.error();
  if ((*manifest)->digest() != superblock.manifest_digest) {
    co_return Error{ErrorCode::kCorrupt,
                    "the manifest on the disk is not the pinned one"};
  }
  auto store = co_await MapStore::Open(*device_, superblock,
                                       FactsOf(*manifest), options_.read_only);
  if (!store) co_return store.error();
  store_ = std::move(*store);
  if (auto s = OpenSource(*manifest); !s) co_return s;
  engine_ = std::make_unique<StreamEngine>(
      loop_, *device_, *store_, *source_, *manifest,
      StreamEngine::Options{std::chrono::seconds(1), options_.read_only});
  co_return OkStatus();
}

Result<std::shared_ptr<const Manifest>> StreamDriver::OpenManifest(
    std::span<const std::byte> file) const {
  auto key = PublicKey::Load(options_.public_key);
  if (!key) return key.error();
  TrustedKeys keys;
  keys.Add(std::move(*key));
  auto manifest = Manifest::Open(file, keys);
  if (!manifest) return manifest.error();
  return std::make_shared<const Manifest>(std::move(*manifest));
}

Status StreamDriver::OpenSource(
    const std::shared_ptr<const Manifest>& manifest) {
  const bool servers_only = !options_.urls.empty();
  FetchOptions options;
  options.servers =
      servers_only ? options_.urls : store_->superblock().server_urls;
  options.curl.ca_file = options_.ca;
  auto source = HttpChunkSource::Create(loop_, manifest, std::move(options),
                                        servers_only);
  if (!source) return source.error();
  source_ = std::move(*source);
  return OkStatus();
}

std::unique_ptr<Frontend> StreamDriver::MakeFrontend() {
  switch (options_.frontend) {
    case FrontendKind::kNbd: {
      identity_.frontend = "nbd";
      NbdFrontendOptions options;
      // A driver that is started again takes the device over by this name.
      options.identifier =
          "bootstream-" + ToHex(store_->superblock().migration_id);
      return MakeNbdFrontend(loop_, *engine_, std::move(options));
    }
    case FrontendKind::kFuse: {
      identity_.frontend = "fuse";
      FuseFrontendOptions options;
      options.directory = options_.mount_directory;
      return MakeFuseFrontend(loop_, *engine_, std::move(options));
    }
    case FrontendKind::kSocket:
      break;
  }
  identity_.frontend = "socket";
  SocketFrontendOptions options;
  options.path = options_.socket;
  return MakeSocketFrontend(loop_, *engine_, std::move(options));
}

Task<Result<std::string>> StreamDriver::Start() {
  if (!options_.read_only) {
    const Status s = co_await store_->UpdateSuperblock([](Superblock& block) {
      if (block.phase == Phase::kArmed) block.phase = Phase::kStreaming;
      ++block.boots_total;
      ++block.boots_without_health;
    });
    if (!s) co_return s.error();
  }
  MakeParentDirectory(options_.socket);
  MakeParentDirectory(options_.control);
  frontend_ = MakeFrontend();
  identity_.disk = options_.disk;
  Result<std::string> device = co_await frontend_->Start();
  if (!device) {
    frontend_.reset();
    co_return device.error();
  }
  identity_.device = *device;
  backfill_ = std::make_unique<Backfill>(loop_, *engine_, *store_,
                                         options_.backfill);
  auto control = ControlServer::Listen(
      loop_, options_.control,
      [this](json request) { return Handle(std::move(request)); });
  if (!control) co_return control.error();
  control_ = std::move(*control);
  auto status_file = StatusFile::Open(options_.status_file);
  if (!status_file) co_return status_file.error();
  status_file_ = std::make_unique<StatusFile>(std::move(*status_file));
  WriteStatusFile();
  if (!options_.read_only) backfill_->Start();
  co_return device;
}

Task<Status> StreamDriver::Stop() {
  if (frontend_) {
    if (auto s = co_await frontend_->Stop(); !s) co_return s;
  }
  stopped_ = true;
  if (backfill_) backfill_->Stop();
  // Whoever waits for the network is told that there will be no answer.
  final_source_ = source_->statistics();
  source_.reset();
  const Status status = co_await engine_->Drain();
  if (status_file_) (void)status_file_->Replace(Report().dump() + "\n");
  co_return status;
}

json StreamDriver::Report() const {
  return StatusReport(identity_, *engine_,
                      source_ ? source_->statistics() : final_source_,
                      *backfill_);
}

void StreamDriver::WriteStatusFile() {
  if (stopped_) return;
  (void)status_file_->Replace(Report().dump() + "\n");
  loop_.PostAfter(kStatusInterval, [this] { WriteStatusFile(); });
}

Task<json> StreamDriver::Handle(json request) {
  const std::string command = request["command"];
  if (command == "status") co_return Report();
  if (command == "dirty") {
    co_return json{{"extents", DirtyExtents(*engine_)}};
  }
  if (command == "backfill") co_return SteerBackfill(request);
  if (command == "rollback") co_return co_await WishRollback();
  if (command == "wait" && request.value("for", json()) == "complete") {
    if (store_->superblock().phase < Phase::kComplete) {
      co_await backfill_->completed();
    }
    co_return json::object();
  }
  co_return ControlError("unknown command '" + command + "'");
}

json StreamDriver::SteerBackfill(const json& request) {
  const json action = request.value("action", json());
  const json rate = request.value("bytes_per_second", json());
  if (action == "pause") {
    backfill_->Pause();
  } else if (action == "resume") {
    backfill_->Resume();
  } else if (action == "limit" && rate.is_number_unsigned()) {
    backfill_->SetLimit(rate.get<uint64_t>());
  } else {
    return ControlError("backfill: say pause, resume or limit with a number");
  }
  return json::object();
}

Task<json> StreamDriver::WishRollback() {
  if (store_->superblock().committed) {
    co_return ControlError("the old system was given up by commit");
  }
  const Status s = co_await store_->UpdateSuperblock(
      [](Superblock& block) { block.rollback_wished = true; });
  if (!s) co_return ControlError(s.error().message);
  co_return json::object();
}

}  // namespace bootstream
