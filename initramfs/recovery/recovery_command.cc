#include "initramfs/recovery/recovery_command.h"

#include <chrono>
#include <iostream>

#include "blockmap/base/file_util.h"
#include "initramfs/recovery/recovery_list.h"
#include "initramfs/system/read_files.h"

namespace bootstream {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr uint64_t kListBytesMax = uint64_t{16} << 20;

}  // namespace

RecoveryCommand::RecoveryCommand(CLI::App& app) {
  command_ = app.add_subcommand("recovery-set",
                                "Have what the network needs to come back on "
                                "the disk, to stay while this "
                                "driver serves; of use at the start");
  command_->add_option("--root", root_, "Where the system is mounted")
      ->capture_default_str();
  command_->add_option("--list", list_, "File that names what it is")
      ->capture_default_str();
  command_
      ->add_option("--patience", patience_seconds_,
                   "Seconds to wait for the server")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
}

std::optional<int> RecoveryCommand::Run(ControlClient& client) const {
  if (!*command_) return std::nullopt;
  const Status status = ReadAll(client);
  if (status) return 0;
  std::cerr << "streamctl: " << status.error().message << "\n";
  return ExitCodeFor(status.error().code);
}

Status RecoveryCommand::ReadAll(ControlClient& client) const {
  const auto file = ReadWholeFile(list_, kListBytesMax);
  if (!file) return file.error();
  const auto paths =
      PathsOfList({reinterpret_cast<const char*>(file->data()), file->size()},
                  NetworkDrivers("/sys"));
  const auto begun =
      client.Ask({{"command", "recovery-set"}, {"action", "begin"}});
  if (!begun) return begun.error();
  if (begun->value("needed", json()) != true) return OkStatus();
  const milliseconds patience(static_cast<int64_t>(patience_seconds_ * 1000));
  const Status read =
      ReadFiles(root_, paths, std::chrono::steady_clock::now() + patience);
  const auto ended =
      client.Ask({{"command", "recovery-set"}, {"action", "end"}});
  if (!read && read.error().code == ErrorCode::kUnavailable) {
    return Error{ErrorCode::kUnavailable,
                 "not everything that the network needs to come back has come "
                 "from the server in time; the rest comes when it is read"};
  }
  if (!read) return read;
  if (!ended) return ended.error();
  const json sentence = ended->value("sentence", json());
  if (sentence.is_string() && sentence != "") {
    std::cerr << "streamctl: " << sentence.get<std::string>() << "\n";
  }
  return OkStatus();
}

}  // namespace bootstream
