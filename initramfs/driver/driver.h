#ifndef INITRAMFS_DRIVER_DRIVER_H_
#define INITRAMFS_DRIVER_DRIVER_H_

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/io_loop.h"
#include "blockmap/disk/source_view.h"
#include "blockmap/image/http_chunk_source.h"
#include "blockmap/map/map_store.h"
#include "initramfs/driver/backfill.h"
#include "initramfs/driver/boot_view.h"
#include "initramfs/driver/checker.h"
#include "initramfs/driver/control_server.h"
#include "initramfs/driver/engine.h"
#include "initramfs/driver/frontend_kind.h"
#include "initramfs/driver/health.h"
#include "initramfs/driver/prefetch.h"
#include "initramfs/driver/read_only_service.h"
#include "initramfs/driver/settler.h"
#include "initramfs/driver/side_device.h"
#include "initramfs/driver/space_report.h"
#include "initramfs/driver/status_file.h"
#include "initramfs/driver/status_report.h"
#include "initramfs/frontend/frontend.h"
#include "initramfs/keeper/fd_store.h"

namespace bootstream {

struct DriverOptions {
  std::string disk;  // as the user calls it
  FrontendKind frontend = FrontendKind::kSocket;
  std::string socket = "/run/bootstream/nbd.sock";       // kSocket
  std::string mount_directory = "/run/bootstream/fuse";  // kFuse
  // The same for the old system, when it is attached, and for the boot view.
  std::string source_socket = "/run/bootstream/source.sock";
  std::string source_mount_directory = "/run/bootstream/source-fuse";
  std::string boot_socket = "/run/bootstream/boot.sock";
  std::string boot_mount_directory = "/run/bootstream/boot-fuse";
  // Told of devices of the kernel besides the streamed one.
  DeviceNotice side_notice;
  std::string public_key = "/etc/bootstream/pubkey.pem";
  std::string ca;                 // PEM file; empty: the system's
  std::vector<std::string> urls;  // instead of those in the superblock
  std::string control = "/run/bootstream/control";
  std::string status_file = "/run/bootstream/status.json";
  bool read_only = false;
  std::chrono::milliseconds stall_timeout{15000};
  std::chrono::milliseconds back_off_max = kBackOffMax;
  uint64_t read_ahead_bytes = uint64_t{64} << 20;
  Prefetch::Options prefetch;
  Backfill::Options backfill;
  BootHealth::Options health;
};

// Everything of one streamed disk, wired together; the engine apart from its
// front end, and both from the process (streamd_main.cc).  One thread, the
// loop's, which must be running.
class StreamDriver {
 public:
  // Find the migration on the disk behind `disk` (OpenDisk, or the claim), open
  // its manifest with the trusted key and its map.  kNotFound: no migration;
  // kRefused: one that is not ready to run (the agent must go on first).
  // `kept`, which must outlive the driver: what a worker before us has left.
  static Task<Result<std::unique_ptr<StreamDriver>>> Open(IoLoop& loop,
                                                          UniqueFd disk,
                                                          DriverOptions options,
                                                          FdStore& kept);
  ~StreamDriver();

  // The map has left the disk, and the worker before us died before that was
  // all: say so in the status file, and, if the device is still there, take it
  // away.
  static Task<Status> EndForAnother(IoLoop& loop, UniqueFd disk,
                                    DriverOptions options, FdStore& kept,
                                    bool device_is_there);

  // Serve.  The path of the socket or block device.  `resumed`: a worker before
  // us has served it already.
  Task<Result<std::string>> Start(bool resumed);
  // Stop serving and commit; one that has settled leaves the disk.  kRefused:
  // the device is in use; goes on serving.
  Task<Status> Stop();
  // Whether everything is at home.
  bool settled() const;
  // And nobody looks at the disk as the boot loader will see it.
  bool may_leave() const { return settled() && !boot_device_->in_use(); }
  bool left() const { return left_; }
  // Settled: take everything of ours off the disk, durably (MapStore::Leave).
  // REQUIRES: nobody reads or writes meanwhile.
  Task<Status> Leave();

 private:
  StreamDriver(IoLoop& loop, DriverOptions options, FdStore& kept)
      : loop_(loop), options_(std::move(options)), kept_(kept) {}
  Task<Status> OpenMap(UniqueFd disk);
  Result<Sha256> DiskSerial();
  Result<PublicKey> TrustedKey() const;
  Result<std::unique_ptr<KeptChanges>> OpenKeptChanges(const Uuid& migration);
  Task<Status> CountBoot();
  Status StartControl();
  Status OpenStatusFile();
  void MakeBackfill();
  void KeepBackfillState();
  Result<std::shared_ptr<const Manifest>> OpenManifest(
      std::span<const std::byte> file) const;
  Status OpenSource(const std::shared_ptr<const Manifest>& manifest);
  Status ChooseFrontend();
  std::unique_ptr<Frontend> MakeFrontend(BlockService& service,
                                         const Uuid& migration);
  Status KeepImage();
  Result<std::unique_ptr<SideDevice>> MakeSideDevice(BlockService& service,
                                                     std::string purpose);
  Status MakeSideDevices();
  Task<nlohmann::json> Handle(nlohmann::json request,
                              ControlConnection& connection);
  nlohmann::json Trace() const;
  nlohmann::json StartCheck(const nlohmann::json& request);
  nlohmann::json SteerBackfill(const nlohmann::json& request);
  Task<nlohmann::json> WaitFor(std::string what);
  Task<nlohmann::json> WishRollback();
  Task<nlohmann::json> CommitMigration();
  Task<Status> GiveUpSource();
  SpaceFacts Space() const;
  void LookAtSpace(const SpaceFacts& facts);
  Task<void> GiveUpByPolicy();
  void SayOfSpace(const std::string& sentence) const;
  Task<nlohmann::json> SteerSource(const nlohmann::json& request);
  Task<nlohmann::json> SteerBootView(const nlohmann::json& request);
  Task<nlohmann::json> AttachBootView(const nlohmann::json& request);
  Task<nlohmann::json> ReportHealthy();
  nlohmann::json SteerRecoverySet(const nlohmann::json& request,
                                  ControlConnection& connection);
  std::shared_ptr<void> OpenRecoverySet();
  void RecoverySetIsRead();
  Task<void> BringRecoverySet();
  void TakeKeptRecoverySet();
  nlohmann::json Report(const SpaceFacts& space) const;
  void EverySecond();
  void WarnOfDates();

  IoLoop& loop_;
  DriverOptions options_;
  FdStore& kept_;
  std::string kept_backfill_;
  DriverIdentity identity_;
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<MapStore> store_;
  std::unique_ptr<HttpChunkSource> source_;
  std::unique_ptr<StreamEngine> engine_;
  std::unique_ptr<Prefetch> prefetch_;
  std::unique_ptr<Backfill> backfill_;
  std::unique_ptr<Settler> settler_;
  std::unique_ptr<BootHealth> health_;
  std::unique_ptr<Checker> checker_;
  std::unique_ptr<Frontend> frontend_;
  std::unique_ptr<SourceView> source_view_;
  std::unique_ptr<ReadOnlyService> source_service_;
  std::unique_ptr<SideDevice> source_device_;
  std::unique_ptr<BootView> boot_view_;
  std::unique_ptr<ReadOnlyService> boot_service_;
  std::unique_ptr<SideDevice> boot_device_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<StatusFile> status_file_;
  FetchStatistics final_source_;  // after Stop
  bool warned_of_dates_ = false;
  bool stopped_ = false;
  bool left_ = false;
  Event committed_or_stopped_;
  bool ended_ = false;  // Stop has done all it could
  bool committing_ = false;
  bool wishing_ = false;  // a rollback
  UnderWay deciding_;     // the policy when full
  UnderWay recovering_;   // chunks of the recovery set come back
  SpaceWarnings space_warnings_{
      [this](const std::string& sentence) { SayOfSpace(sentence); }};
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_DRIVER_H_
