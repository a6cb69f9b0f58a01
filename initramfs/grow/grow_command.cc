#include "initramfs/grow/grow_command.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "blockmap/base/progress.h"
#include "initramfs/driver/scan.h"
#include "initramfs/grow/live_disk.h"
#include "initramfs/grow/wish.h"

namespace bootstream {
namespace {

using nlohmann::json;

int Fail(const Error& error) {
  std::cerr << "streamctl: " << error.message << std::endl;
  return ExitCodeFor(error.code);
}

json ReportJson(const GrowReport& report, bool dry_run) {
  const auto text = [](const std::string& words) {
    return words.empty() ? json() : json(words);
  };
  return {{"disk", report.disk},
          {"disk_bytes", report.disk_bytes},
          {"dry_run", dry_run},
          {"table_grows", report.table_grows},
          {"partition", report.partition},
          {"partition_bytes_before", report.partition_bytes_before},
          {"partition_bytes", report.partition_bytes},
          {"left_alone", text(report.left_alone)},
          {"file_system", text(report.file_system)},
          {"mounted_at", text(report.mounted_at)},
          {"file_system_bytes_before", report.file_system_bytes_before},
          {"file_system_bytes", report.file_system_bytes}};
}

// A migration's disk is not ours to change.
Status CheckNoMigration(const std::string& disk) {
  const auto found = ScanDisks({disk});
  if (!found) return found.error();
  for (const std::string& warning : found->warnings) {
    std::cerr << "streamctl: " << warning << "\n";
  }
  if (found->disk.empty()) return OkStatus();
  return Error{ErrorCode::kRefused,
               disk +
                   " is under migration: it can be grown when the driver has "
                   "left (streamctl commit, streamctl wait detached)"};
}

}  // namespace

GrowCommand::GrowCommand(CLI::App& app)
    : grow_(app.add_subcommand(
          "grow",
          "Make partition table, last partition and its file system as large "
          "as the disk, in use, after the driver has left")) {
  grow_->add_flag("--when-detached", when_detached_,
                  "If the image asks for it: remember that, wait until the "
                  "driver has left, then grow");
  grow_->add_flag("--dry-run", dry_run_, "Only say what would be done");
  grow_->add_flag("--json", as_json_, "One JSON object");
  grow_
      ->add_option("--root", root_, "A file system of the disk is mounted here")
      ->capture_default_str();
  grow_->add_option("--wish", wish_, "Where --when-detached remembers it")
      ->capture_default_str();
}

std::optional<int> GrowCommand::Run(const std::string& control) const {
  if (!*grow_) return std::nullopt;
  if (when_detached_) return WhenDetached(control);
  if (ControlClient::Connect(control)) {
    return Fail({ErrorCode::kRefused,
                 "a driver serves this system: it can be grown when that has "
                 "left (streamctl commit, streamctl wait detached)"});
  }
  const auto report = Grow();
  if (!report) return Fail(report.error());
  Print(*report);
  return 0;
}

Result<GrowReport> GrowCommand::Grow() const {
  const auto disk = FindDiskBelow(root_);
  if (!disk) return disk.error();
  if (auto s = CheckNoMigration(disk->node.path); !s) return s.error();
  return GrowDisk(*disk, dry_run_ ? GrowMode::kDryRun : GrowMode::kDo);
}

void GrowCommand::Print(const GrowReport& report) const {
  if (as_json_) {
    std::cout << ReportJson(report, dry_run_).dump(2) << std::endl;
    return;
  }
  const std::string would = dry_run_ ? " would be" : " is";
  std::cout << report.disk << ": the partition table"
            << (report.table_grows ? would + " extended to "
                                   : std::string(" takes up all "))
            << FormatBytes(report.disk_bytes) << "\n";
  if (!report.left_alone.empty()) {
    std::cout << report.left_alone << ": it is left alone" << std::endl;
    return;
  }
  std::cout << "partition " << report.partition << would << " "
            << FormatBytes(report.partition_bytes) << ", before "
            << FormatBytes(report.partition_bytes_before) << "\n"
            << report.file_system << " at " << report.mounted_at
            << (dry_run_ ? " would grow with it; it is " : " is ")
            << FormatBytes(report.file_system_bytes) << std::endl;
}

// Until this driver has left or died; whether it is wished for.
Result<bool> GrowCommand::WaitOnce(ControlClient& client) const {
  const auto status = client.Ask({{"command", "status"}});
  if (!status) return status.error();
  if (status->value("grow", json()) != true) {
    // Perhaps of another image that this one was made of.
    if (auto s = RemoveWish(wish_); !s) return s.error();
    return false;
  }
  const std::string why =
      status->value("image", json()).dump() + " asks for it\n";
  if (auto s = WriteWish(wish_, why); !s) return s.error();
  for (const char* state : {"committed", "detached"}) {
    const auto reply = client.Ask({{"command", "wait"}, {"for", state}});
    if (!reply) return reply.error();
  }
  return true;
}

Result<bool> GrowCommand::WaitUntilDetached(const std::string& control) const {
  for (;;) {
    auto client = ControlClient::Connect(control);
    if (!client && client.error().code == ErrorCode::kNotFound) {
      return IsWished(wish_);
    }
    if (!client) return client.error();
    const auto wished = WaitOnce(*client);
    // The connection ends with the driver, or with a worker that has a
    // successor.
    if (!wished && wished.error().code != ErrorCode::kIo) return wished.error();
    if (wished && !*wished) return false;
  }
}

int GrowCommand::WhenDetached(const std::string& control) const {
  const auto wished = WaitUntilDetached(control);
  if (!wished) return Fail(wished.error());
  if (!*wished) return 0;
  const auto report = Grow();
  if (!report) return Fail(report.error());
  Print(*report);
  const Status removed = dry_run_ ? OkStatus() : RemoveWish(wish_);
  return removed ? 0 : Fail(removed.error());
}

}  // namespace bootstream
