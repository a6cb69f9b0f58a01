#include "initramfs/driver/decisions.h"

#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <optional>
#include <string>

#include "initramfs/driver/status_text.h"

namespace bootstream {
namespace {

using nlohmann::json;

int Fail(const Error& error) {
  std::cerr << "streamctl: " << error.message << "\n";
  return ExitCodeFor(error.code);
}

// The exit code if it is not to be done.
std::optional<int> Ask(const std::string& what, const std::string& question) {
  if (::isatty(STDIN_FILENO) == 0) {
    std::cerr << "streamctl: " << what
              << "; say --yes to do it without being asked\n";
    return 2;
  }
  std::cout << question << " [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  if (answer == "y" || answer == "yes") return std::nullopt;
  return 1;
}

// What the new system has changed, from a status or the reply to rollback.
struct Changes {
  uint64_t bytes = 0;
  uint64_t extents = 0;
};

Changes ChangesIn(const json& reply) {
  const json changes = reply.value("changes", json::object());
  const auto number = [&](const char* key) {
    const json value = changes.value(key, json());
    return value.is_number_unsigned() ? value.get<uint64_t>() : 0;
  };
  return {number("bytes"), number("extents")};
}

std::string WhatChanged(const Changes& changes) {
  if (changes.bytes == 0) {
    return "Nothing was changed here since the migration.";
  }
  return "Since the migration " + Amount(static_cast<double>(changes.bytes)) +
         " were changed here, in " + std::to_string(changes.extents) +
         (changes.extents == 1 ? " place" : " places") +
         ". They stay on the disk, in the\nregion: the old system does not see "
         "them, and 'bootagent return' brings them back\nwith this system.";
}

uint64_t WaitingWrites(const json& status) {
  const json space = status.value("space", json::object());
  const json waiting = space.value("waiting_writes", json());
  return waiting.is_number_unsigned() ? waiting.get<uint64_t>() : 0;
}

// Restart, which does not return; an exit code if it cannot be.
int Restart() {
  ::execlp("systemctl", "systemctl", "reboot", nullptr);
  return Fail(ErrnoError(errno, "systemctl reboot"));
}

void SayAsJson(const Changes& changes, const DecisionOptions& options) {
  const json said = {{"changed_bytes", changes.bytes},
                     {"changed_extents", changes.extents},
                     {"parked", true},
                     {"restarts", !options.no_restart}};
  std::cout << said.dump(2) << std::endl;
}

}  // namespace

int RunRollback(ControlClient& client, const DecisionOptions& options) {
  const auto status = client.Ask({{"command", "status"}});
  if (!status) return Fail(status.error());
  if (!options.yes) {
    const std::string what = WhatChanged(ChangesIn(*status));
    const auto no = Ask(
        "rollback restarts this machine into the old system",
        what + (options.no_restart ? "\nThe next start goes back to the old "
                                     "system. Go back?"
                                   : "\nThis machine restarts now, into the "
                                     "old system. Go back?"));
    if (no) return *no;
  }
  const auto reply = client.Ask({{"command", "rollback"}});
  if (!reply) return Fail(reply.error());
  const Changes changes = ChangesIn(*reply);
  if (options.as_json) {
    SayAsJson(changes, options);
  } else {
    std::cout
        << WhatChanged(changes) << "\n"
        << (options.no_restart
                ? "The next start goes back to the old system."
                : "This machine restarts and goes back to the old system.")
        << std::endl;
  }
  if (WaitingWrites(*status) > 0) {
    std::cerr << "streamctl: the region is full and writes wait: they do not "
                 "come to an end, and what they hold is lost; shutting down "
                 "takes as long as systemd waits for them, 'echo b "
                 ">/proc/sysrq-trigger' restarts at once"
              << std::endl;
  }
  return options.no_restart ? 0 : Restart();
}

int RunCommit(ControlClient& client, const DecisionOptions& options) {
  const auto status = client.Ask({{"command", "status"}});
  if (!status) return Fail(status.error());
  const json health = status->value("health", json::object());
  const bool healthy = health.value("healthy_once", json(false)) == true;
  if (!options.yes && status->value("committed", json()) != true) {
    const auto no = Ask(
        "commit gives the old system up for good",
        std::string(healthy ? ""
                            : "This system has not been reported healthy "
                              "yet.\n") +
            "From now on there is no way back to the old system, and the files "
            "that are only\nthere are lost: its space becomes this system's. "
            "Give it up?");
    if (no) return *no;
  }
  const auto reply = client.Ask({{"command", "commit"}});
  if (!reply) return Fail(reply.error());
  std::cout << (reply->value("already", json()) == true
                    ? "The old system had been given up already."
                    : "The old system is given up.")
            << std::endl;
  return 0;
}

}  // namespace bootstream
