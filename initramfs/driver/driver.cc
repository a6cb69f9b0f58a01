#include "initramfs/driver/driver.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iostream>
#include <utility>

#include "blockmap/base/coding.h"
#include "blockmap/base/file_util.h"
#include "blockmap/base/posix_block_device.h"
#include "blockmap/base/uring_block_device.h"
#include "blockmap/disk/disk_serial.h"
#include "blockmap/disk/find_migration.h"
#include "blockmap/image/image_facts.h"
#include "blockmap/map/map_leave.h"
#include "initramfs/driver/kept_backfill.h"
#include "initramfs/frontend/fuse_frontend.h"
#include "initramfs/frontend/nbd_frontend.h"
#include "initramfs/frontend/socket_frontend.h"
#include "initramfs/frontend/ublk_frontend.h"

namespace bootstream {
namespace {

using nlohmann::json;

constexpr uint64_t kKeyBytesMax = uint64_t{64} << 10;

// Names in the keeper's store (keeper.md).
constexpr char kKeptSerial[] = "serial";
constexpr char kKeptKey[] = "pubkey";
constexpr char kKeptChanges[] = "changes";
constexpr char kKeptControl[] = "control";
constexpr char kKeptStatus[] = "status";
constexpr char kKeptBackfill[] = "backfill";
constexpr char kKeptFrontend[] = "frontend";
constexpr char kKeptImage[] = "image";

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

// One line for each trouble with the disk; of many, ever fewer.
std::function<void(const std::string&)> ReportTo(const std::string& disk) {
  return [disk, count = uint64_t{0}](const std::string& text) mutable {
    ++count;
    if (count > 100 && (count & (count - 1)) != 0) return;
    std::cerr << "streamd: " << disk << ": " << text
              << (count > 100 ? " (and others like it)" : "") << std::endl;
  };
}

Result<std::unique_ptr<BlockDevice>> MakeDevice(IoLoop& loop, UniqueFd disk) {
  if (LiesInMemory(disk.get())) {
    auto device = PosixBlockDevice::Adopt(std::move(disk));
    if (!device) return device.error();
    return std::make_unique<PosixBlockDevice>(std::move(*device));
  }
  auto device = UringBlockDevice::Adopt(loop, std::move(disk));
  if (!device) return device.error();
  return std::move(*device);
}

// A failure shows when the socket is made.
void MakeParentDirectory(const std::string& path) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(),
                                      ignored);
}

}  // namespace

StreamDriver::~StreamDriver() = default;

Task<Result<std::unique_ptr<StreamDriver>>> StreamDriver::Open(
    IoLoop& loop, UniqueFd disk, DriverOptions options, FdStore& kept) {
  std::unique_ptr<StreamDriver> driver(
      new StreamDriver(loop, std::move(options), kept));
  Status status = co_await driver->OpenMap(std::move(disk));
  if (!status) co_return status.error();
  co_return driver;
}

Task<Status> StreamDriver::OpenMap(UniqueFd disk) {
  auto device = MakeDevice(loop_, std::move(disk));
  if (!device) co_return device.error();
  device_ = std::move(*device);
  const auto serial = DiskSerial();
  if (!serial) co_return serial.error();
  auto found = co_await FindMigration(*device_, *serial);
  if (!found) co_return found.error();
  for (const std::string& warning : found->warnings) {
    std::cerr << "streamd: " << options_.disk << ": " << warning << "\n";
  }
  if (found->leaving && !options_.read_only) {
    auto finished =
        FinishLeaving(*device_, found->leaving->offset, found->leaving->anchor);
    if (auto s = co_await finished; !s) co_return s;
    found->leaving.reset();
  }
  if (auto known = WithoutDoubt(*found); !known) co_return known.error();
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
  auto changes = OpenKeptChanges(superblock.migration_id);
  if (!changes) co_return changes.error();
  auto opening = MapStore::Open(*device_, superblock, FactsOf(*manifest),
                                options_.read_only, std::move(*changes));
  auto store = co_await opening;
  if (!store) co_return store.error();
  store_ = std::move(*store);
  if (auto s = OpenSource(*manifest); !s) co_return s;
  engine_ = std::make_unique<StreamEngine>(
      loop_, *device_, *store_, *source_, *manifest,
      StreamEngine::Options{.read_only = options_.read_only,
                            .read_ahead_bytes = options_.read_ahead_bytes,
                            .report = ReportTo(options_.disk)});
  co_return OkStatus();
}

Result<Sha256> StreamDriver::DiskSerial() {
  Sha256 serial{};
  const auto bytes = kept_.TakeBytes(kKeptSerial);
  if (bytes && bytes->size() == serial.size()) {
    std::copy(bytes->begin(), bytes->end(), serial.begin());
    return serial;
  }
  serial = DiskSerialSha256(options_.disk);
  if (auto s = kept_.KeepBytes(kKeptSerial, serial); !s) return s.error();
  return serial;
}

Result<PublicKey> StreamDriver::TrustedKey() const {
  auto pem = kept_.TakeText(kKeptKey);
  if (!pem) {
    const auto file = ReadWholeFile(options_.public_key, kKeyBytesMax);
    if (!file) return file.error();
    pem.emplace(reinterpret_cast<const char*>(file->data()), file->size());
    if (auto s = kept_.KeepText(kKeptKey, *pem); !s) return s.error();
  }
  auto key = PublicKey::FromPem(*pem);
  if (!key) return Annotate(key.error(), options_.public_key);
  return key;
}

// Null where no process comes after us, or nothing is changed.
Result<std::unique_ptr<KeptChanges>> StreamDriver::OpenKeptChanges(
    const Uuid& migration) {
  if (!kept_.has_keeper() || options_.read_only) return nullptr;
  UniqueFd file = kept_.Take(kKeptChanges);
  if (!file) {
    file.reset(::memfd_create("bootstream-changes", MFD_CLOEXEC));
    if (!file) return ErrnoError(errno, "memfd_create");
    if (auto s = kept_.Keep(kKeptChanges, file.get()); !s) return s.error();
  }
  return KeptChanges::Open(std::move(file), migration);
}

Result<std::shared_ptr<const Manifest>> StreamDriver::OpenManifest(
    std::span<const std::byte> file) const {
  auto key = TrustedKey();
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
  // Only chunks come from here, and each is checked by its digest.
  options.curl.tolerate_dates = true;
  options.stall_timeout = options_.stall_timeout;
  options.back_off_max = options_.back_off_max;
  auto source = HttpChunkSource::Create(loop_, manifest, std::move(options),
                                        servers_only);
  if (!source) return source.error();
  source_ = std::move(*source);
  return OkStatus();
}

// What kAuto stands for: as an earlier worker has found, else what the kernel
// has.
Status StreamDriver::ChooseFrontend() {
  if (options_.frontend != FrontendKind::kAuto) return OkStatus();
  std::string name = kept_.TakeText(kKeptFrontend).value_or("");
  if (name.empty()) {
    name = UblkIsThere() ? "ublk" : NbdIsThere() ? "nbd" : "fuse";
  }
  options_.frontend = name == "ublk"  ? FrontendKind::kUblk
                      : name == "nbd" ? FrontendKind::kNbd
                                      : FrontendKind::kFuse;
  return kept_.KeepText(kKeptFrontend, name);
}

std::unique_ptr<Frontend> StreamDriver::MakeFrontend(BlockService& service,
                                                     const Uuid& migration) {
  switch (options_.frontend) {
    case FrontendKind::kNbd: {
      identity_.frontend = "nbd";
      NbdFrontendOptions options;
      // A driver that is started again takes the device over by this name.
      options.identifier = "bootstream-" + ToHex(migration);
      options.kept = &kept_;
      return MakeNbdFrontend(loop_, service, std::move(options));
    }
    case FrontendKind::kFuse: {
      identity_.frontend = "fuse";
      FuseFrontendOptions options;
      options.directory = options_.mount_directory;
      options.kept = &kept_;
      return MakeFuseFrontend(loop_, service, std::move(options));
    }
    case FrontendKind::kUblk: {
      identity_.frontend = "ublk";
      UblkFrontendOptions options;
      options.read_only = options_.read_only;
      options.name = LoadLe<uint64_t>(std::span(migration).first<8>());
      options.log = ReportTo(options_.disk);
      options.kept = &kept_;
      return MakeUblkFrontend(loop_, service, std::move(options));
    }
    case FrontendKind::kSocket:
    case FrontendKind::kAuto:  // not any more
      break;
  }
  identity_.frontend = "socket";
  SocketFrontendOptions options;
  options.path = options_.socket;
  options.kept = &kept_;
  return MakeSocketFrontend(loop_, service, std::move(options));
}

// What EndForAnother must know, and nobody can tell it then.
Status StreamDriver::KeepImage() {
  std::vector<std::byte> bytes;
  ByteWriter out(bytes);
  out.Bytes(store_->superblock().migration_id);
  out.U64(engine_->size_bytes());
  return kept_.KeepBytes(kKeptImage, bytes);
}

Task<Status> StreamDriver::EndForAnother(IoLoop& loop, UniqueFd disk,
                                         DriverOptions options, FdStore& kept,
                                         bool device_is_there) {
  StreamDriver ending(loop, std::move(options), kept);
  if (auto s = ending.OpenStatusFile(); !s) co_return s;
  const json last = {{"phase", "detached"}};
  (void)ending.status_file_->Replace(JsonLine(last));
  const auto image = kept.TakeBytes(kKeptImage);
  if (!device_is_there || !image ||
      image->size() != sizeof(Uuid) + sizeof(uint64_t)) {
    co_return OkStatus();
  }
  ByteReader in(*image);
  const Uuid migration = in.Array<16>();
  const Grid grid{kChunkBytesDefault, in.U64()};
  auto device = MakeDevice(loop, std::move(disk));
  if (!device) co_return device.error();
  // Everything is in its place.
  const BlockMap nothing_elsewhere;
  SourceView raw(**device, nothing_elsewhere, grid);
  ReadOnlyService service(raw);
  if (auto s = ending.ChooseFrontend(); !s) co_return s;
  const auto frontend = ending.MakeFrontend(service, migration);
  const auto path = co_await frontend->Start();
  if (!path) co_return OkStatus();  // it was gone before we came
  co_return co_await frontend->Stop();
}

Result<std::unique_ptr<SideDevice>> StreamDriver::MakeSideDevice(
    BlockService& service, std::string purpose) {
  const bool source = purpose == "source";
  SideDeviceOptions options;
  options.frontend = options_.frontend;
  options.socket = source ? options_.source_socket : options_.boot_socket;
  options.mount_directory = source ? options_.source_mount_directory
                                   : options_.boot_mount_directory;
  options.migration = store_->superblock().migration_id;
  options.notice = options_.side_notice;
  options.log = ReportTo(options_.disk);
  auto kept = kept_.Branch(purpose + "-");
  if (!kept) return kept.error();
  options.purpose = std::move(purpose);
  return std::make_unique<SideDevice>(loop_, service, std::move(*kept),
                                      std::move(options));
}

Status StreamDriver::MakeSideDevices() {
  source_view_ = std::make_unique<SourceView>(*device_, store_->map(),
                                              store_->disk_grid());
  source_service_ = std::make_unique<ReadOnlyService>(*source_view_);
  auto source = MakeSideDevice(*source_service_, "source");
  if (!source) return source.error();
  source_device_ = std::move(*source);
  boot_view_ = std::make_unique<BootView>(loop_, *device_, *engine_);
  boot_service_ = std::make_unique<ReadOnlyService>(*boot_view_);
  auto boot = MakeSideDevice(*boot_service_, "boot");
  if (!boot) return boot.error();
  boot_device_ = std::move(*boot);
  return OkStatus();
}

Task<Status> StreamDriver::CountBoot() {
  co_return co_await store_->UpdateSuperblock([](Superblock& block) {
    if (block.phase == Phase::kArmed) block.phase = Phase::kStreaming;
    ++block.boots_total;
  });
}

Task<Result<std::string>> StreamDriver::Start(bool resumed) {
  if (!options_.read_only && !resumed) {
    if (auto s = co_await CountBoot(); !s) co_return s.error();
  }
  if (!resumed) {
    MakeParentDirectory(options_.socket);
    MakeParentDirectory(options_.control);
  }
  TakeKeptRecoverySet();
  identity_.kept = kept_.has_keeper();
  identity_.restarts = kept_.restarts();
  if (auto s = ChooseFrontend(); !s) co_return s.error();
  if (auto s = KeepImage(); !s) co_return s.error();
  frontend_ = MakeFrontend(*engine_, store_->superblock().migration_id);
  identity_.disk = options_.disk;
  Result<std::string> device = co_await frontend_->Start();
  if (!device) {
    frontend_.reset();
    co_return device.error();
  }
  identity_.device = *device;
  checker_ = std::make_unique<Checker>(loop_, *engine_);
  prefetch_ = std::make_unique<Prefetch>(*engine_, options_.prefetch);
  MakeBackfill();
  settler_ = std::make_unique<Settler>(
      loop_, *engine_, *store_,
      Settler::Options{.bytes_per_second = backfill_->limit_bytes_per_second(),
                       .yield = options_.backfill.yield});
  health_ =
      std::make_unique<BootHealth>(loop_, *store_, *engine_, options_.health);
  if (auto s = MakeSideDevices(); !s) co_return s.error();
  if (resumed) {
    Spawn(source_device_->Resume());
    Spawn(boot_device_->Resume());
  }
  if (auto s = StartControl(); !s) co_return s.error();
  if (auto s = OpenStatusFile(); !s) co_return s.error();
  EverySecond();
  if (!options_.read_only) {
    prefetch_->Start();
    backfill_->Start();
    settler_->Start();
    health_->Start();
  }
  co_return device;
}

// As an earlier worker was told, else as the options say.
void StreamDriver::MakeBackfill() {
  const auto text = kept_.TakeText(kKeptBackfill);
  backfill_ = std::make_unique<Backfill>(
      loop_, *engine_, *store_,
      WithKeptBackfill(options_.backfill, text.value_or("")));
}

void StreamDriver::KeepBackfillState() {
  std::string text = BackfillToKeep(*backfill_);
  if (text == kept_backfill_) return;
  if (kept_.KeepText(kKeptBackfill, text)) kept_backfill_ = std::move(text);
}

Status StreamDriver::StartControl() {
  UniqueFd listener = kept_.Take(kKeptControl);
  if (!listener) {
    auto made = ControlServer::Listen(options_.control);
    if (!made) return made.error();
    listener = std::move(*made);
    if (auto s = kept_.Keep(kKeptControl, listener.get()); !s) return s;
  }
  control_ = ControlServer::Serve(
      loop_, std::move(listener),
      [this](json request, ControlConnection& connection) {
        return Handle(std::move(request), connection);
      });
  return OkStatus();
}

Status StreamDriver::OpenStatusFile() {
  if (UniqueFd directory = kept_.Take(kKeptStatus); directory) {
    status_file_ = std::make_unique<StatusFile>(
        StatusFile::In(std::move(directory), options_.status_file));
    return OkStatus();
  }
  auto opened = StatusFile::Open(options_.status_file);
  if (!opened) return opened.error();
  status_file_ = std::make_unique<StatusFile>(std::move(*opened));
  return kept_.Keep(kKeptStatus, status_file_->directory());
}

Task<Status> StreamDriver::Stop() {
  if (source_device_) {
    if (auto s = co_await source_device_->Detach(); !s) co_return s;
  }
  if (boot_device_) {
    if (auto s = co_await boot_device_->Detach(); !s) co_return s;
  }
  // A socket's clients are answered before it ends; a device that has a user is
  // not taken away from him.
  if (options_.frontend == FrontendKind::kSocket) engine_->RefuseWithoutRoom();
  if (frontend_) {
    if (auto s = co_await frontend_->Stop(); !s) co_return s;
  }
  stopped_ = true;
  co_await deciding_.Ended();
  committed_or_stopped_.Set();
  if (prefetch_) prefetch_->Stop();
  if (backfill_) co_await backfill_->Stop();
  if (settler_) co_await settler_->Stop();
  if (health_) co_await health_->Stop();
  if (checker_) checker_->Stop();
  // Whoever waits for the network is told that there will be no answer.
  final_source_ = source_->statistics();
  source_.reset();
  co_await recovering_.Ended();
  Status status = co_await engine_->Drain();
  if (status && settled() && !left_ && !options_.read_only)
    status = co_await Leave();
  ended_ = true;
  if (status_file_) (void)status_file_->Replace(JsonLine(Report(Space())));
  co_return status;
}

bool StreamDriver::settled() const {
  return store_->superblock().phase == Phase::kSettled;
}

Task<Status> StreamDriver::Leave() {
  if (!settled()) {
    co_return Error{ErrorCode::kRefused,
                    "the migration on " + options_.disk + " is '" +
                        std::string(PhaseName(store_->superblock().phase)) +
                        "': nothing leaves before everything has settled"};
  }
  const Status status = co_await store_->Leave();
  left_ = status.has_value();
  co_return status;
}

}  // namespace bootstream
