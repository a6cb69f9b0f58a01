#include "initramfs/source/source_command.h"

#include <iostream>
#include <string>

namespace bootstream {
namespace {

using nlohmann::json;

int Fail(const Error& error) {
  std::cerr << "streamctl: " << error.message << "\n";
  return ExitCodeFor(error.code);
}

int Attach(ControlClient& client) {
  const auto reply = client.Ask({{"command", "source"}, {"action", "attach"}});
  if (!reply) return Fail(reply.error());
  std::cout << reply->value("device", std::string()) << std::endl;
  return 0;
}

int Detach(ControlClient& client) {
  const auto reply = client.Ask({{"command", "source"}, {"action", "detach"}});
  return reply ? 0 : Fail(reply.error());
}

}  // namespace

SourceCommand::SourceCommand(CLI::App& app) {
  source_ = app.add_subcommand("source", "The old system, from the new one");
  source_->require_subcommand(1);
  attach_ = source_->add_subcommand(
      "attach", "Make its disk a read-only device, and print its path");
  detach_ = source_->add_subcommand("detach", "Take that away again");
}

std::optional<int> SourceCommand::Run(ControlClient& client) const {
  if (*attach_) return Attach(client);
  if (*detach_) return Detach(client);
  return std::nullopt;
}

}  // namespace bootstream
