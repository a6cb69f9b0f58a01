#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <optional>
#include <span>
#include <string>

#include "blockmap/base/file_util.h"
#include "initramfs/closure/closure_command.h"
#include "initramfs/driver/control_client.h"
#include "initramfs/driver/decisions.h"
#include "initramfs/driver/status_text.h"
#include "initramfs/grow/grow_command.h"
#include "initramfs/recovery/recovery_command.h"
#include "initramfs/source/source_command.h"

namespace bootstream {
namespace {

using nlohmann::json;

struct Options {
  std::string control = "/run/bootstream/control";
  std::string status_file = "/run/bootstream/status.json";
  bool as_json = false;
  bool watch = false;
  DecisionOptions decision;
  bool when_quiet = false;
  std::string rate;
  std::string wait_for;
  std::string check_scope = "all";
  std::string trace_out;
};

int Fail(const Error& error) {
  std::cerr << "streamctl: " << error.message << "\n";
  return ExitCodeFor(error.code);
}

int Status(ControlClient& client, const Options& options) {
  Rate rate;
  for (;;) {
    auto status = client.Ask({{"command", "status"}});
    if (!status) return Fail(status.error());
    if (options.as_json) {
      status->erase("ok");
      std::cout << status->dump(2) << std::endl;
    } else {
      if (options.watch && ::isatty(STDOUT_FILENO) != 0) {
        std::printf("\033[H\033[2J");
      }
      try {
        PrintStatus(*status, rate);
      } catch (const json::exception&) {
        return Fail(Error{ErrorCode::kUnsupported,
                          "the driver's status is not what this streamctl "
                          "knows: they are of different versions; restart to "
                          "run the new driver"});
      }
      std::fflush(stdout);
    }
    if (!options.watch) return 0;
    ::poll(nullptr, 0, 1000);
  }
}

// "500K", "20M", "1G", "0": bytes a second, powers of 1024.
Result<uint64_t> ParseRate(const std::string& text) {
  size_t used = 0;
  double value = -1;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
  }
  const std::string unit = text.substr(std::min(used, text.size()));
  const double factor = unit.empty()  ? 1
                        : unit == "K" ? 1024.0
                        : unit == "M" ? 1048576.0
                        : unit == "G" ? 1073741824.0
                                      : -1;
  if (!(value >= 0) || factor < 0 || value * factor > 1e15) {
    return Error{ErrorCode::kInvalid,
                 "'" + text +
                     "' is no rate: write 500K, 20M or 1G (bytes a "
                     "second; 0: no limit)"};
  }
  return static_cast<uint64_t>(value * factor);
}

int Simple(ControlClient& client, const json& request) {
  const auto reply = client.Ask(request);
  return reply ? 0 : Fail(reply.error());
}

// The driver's last word, when it has ended.
bool HasDetached(const std::string& status_file) {
  const auto file = ReadWholeFile(status_file, uint64_t{1} << 24);
  if (!file) return false;
  const auto* text = reinterpret_cast<const char*>(file->data());
  const json status = json::parse(text, text + file->size(), nullptr, false);
  return status.is_object() && status.value("phase", json()) == "detached";
}

int Wait(ControlClient& client, const Options& options) {
  const auto reply =
      client.Ask({{"command", "wait"}, {"for", options.wait_for}});
  if (reply) return 0;
  if (options.wait_for == "detached" && reply.error().code == ErrorCode::kIo &&
      HasDetached(options.status_file)) {
    return 0;
  }
  return Fail(reply.error());
}

void PrintCheck(const json& check) {
  const auto number = [&](const char* key) {
    return static_cast<unsigned long long>(check.at(key).get<uint64_t>());
  };
  std::printf("%llu chunks are as the image has them, %llu were written to\n",
              number("good"), number("not_clean"));
  if (number("touched") > 0) {
    std::printf("%llu boot chunks were written to by firmware or boot loader\n",
                number("touched"));
  }
  if (number("mended") > 0) {
    std::printf("%llu were wrong on the disk and were fetched again\n",
                number("mended"));
  }
}

// How a check that has ended is told, and its exit code.
int EndCheck(const json& check, bool as_json) {
  if (as_json) {
    std::cout << check.dump(2) << std::endl;
  } else {
    PrintCheck(check);
    std::fflush(stdout);
  }
  if (check.at("not_home").get<uint64_t>() > 0) {
    return Fail({ErrorCode::kCorrupt,
                 "boot chunks are not where the firmware looks for them; do "
                 "not restart before 'streamctl check boot' is content"});
  }
  const auto failed = check.at("failed").get<uint64_t>();
  if (failed == 0) return 0;
  return Fail({ErrorCode::kCorrupt,
               std::to_string(failed) +
                   " chunks could not be checked or mended; the last: " +
                   check.at("failure").get<std::string>()});
}

void ShowCheckProgress(const json& check, bool running) {
  if (::isatty(STDERR_FILENO) == 0) return;
  std::fprintf(
      stderr, "\r%llu of %llu%s",
      static_cast<unsigned long long>(check.at("done").get<uint64_t>()),
      static_cast<unsigned long long>(check.at("total").get<uint64_t>()),
      running ? "" : "\n");
}

// The raw disk, as GRUB reads it.
int CheckLoader(ControlClient& client, const ClosureCommand& closure) {
  const auto status = closure.Look(client);
  if (status) return 0;
  if (status.error().code != ErrorCode::kCorrupt) return Fail(status.error());
  return Fail({ErrorCode::kCorrupt,
               status.error().message +
                   "; do not restart before 'streamctl closure' is content"});
}

// Begin, show how far it is, and say what came of it.
int Check(ControlClient& client, const Options& options,
          const ClosureCommand& closure) {
  const auto begun =
      client.Ask({{"command", "check"}, {"scope", options.check_scope}});
  if (!begun) return Fail(begun.error());
  for (;;) {
    const auto status = client.Ask({{"command", "status"}});
    if (!status) return Fail(status.error());
    try {
      const json& check = status->at("check");
      const bool running = check.at("state") == "running";
      ShowCheckProgress(check, running);
      if (running) {
        ::poll(nullptr, 0, 100);
        continue;
      }
      const int code = EndCheck(check, options.as_json);
      if (code != 0 || options.check_scope != "boot") return code;
      return CheckLoader(client, closure);
    } catch (const json::exception&) {
      return Fail({ErrorCode::kUnsupported,
                   "the driver's status is not what this streamctl knows"});
    }
  }
}

// The reply to "trace" in the format of imgserver/trace.md.
std::string FormatTrace(const json& reply) {
  nlohmann::ordered_json header = {{"format", "bootstream-trace 1"},
                                   {"disk_bytes", reply.at("disk_bytes")},
                                   {"firmware", "streamed"}};
  std::string text = header.dump() + "\n";
  for (const json& read : reply.at("reads")) {
    const nlohmann::ordered_json line = {
        {"ms", read.at(0)}, {"offset", read.at(1)}, {"size", read.at(2)}};
    text += line.dump() + "\n";
  }
  return text;
}

int Trace(ControlClient& client, const Options& options) {
  const auto reply = client.Ask({{"command", "trace"}});
  if (!reply) return Fail(reply.error());
  std::string text;
  try {
    text = FormatTrace(*reply);
  } catch (const json::exception&) {
    return Fail({ErrorCode::kUnsupported,
                 "the driver's trace is not what this streamctl knows"});
  }
  if (options.trace_out.empty()) {
    std::cout << text << std::flush;
    return 0;
  }
  const auto written =
      WriteFileDurably(options.trace_out, std::as_bytes(std::span(text)), 0644,
                       IfExists::kReplace);
  return written ? 0 : Fail(written.error());
}

int PrintDirty(ControlClient& client) {
  const auto reply = client.Ask({{"command", "dirty"}});
  if (!reply) return Fail(reply.error());
  std::cout << reply->value("extents", json::array()).dump() << std::endl;
  return 0;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Looks at and steers the streaming driver of this machine."};
  app.name("streamctl");
  app.set_version_flag("--version", "bootstream " BOOTSTREAM_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--control", options.control, "Socket of the driver")
      ->capture_default_str();
  auto* status = app.add_subcommand("status", "What is local, what comes");
  status->add_flag("--json", options.as_json, "One JSON object");
  status->add_flag("--watch", options.watch, "Again each second");
  auto* backfill = app.add_subcommand(
      "backfill", "Steer the download of what nobody has read yet");
  backfill->require_subcommand(1);
  auto* pause = backfill->add_subcommand("pause", "Fetch only what is read");
  auto* resume = backfill->add_subcommand("resume", "Go on");
  resume->add_flag("--when-quiet", options.when_quiet,
                   "Not before nothing new has been read for 30 seconds");
  auto* limit = backfill->add_subcommand("limit", "At most RATE a second");
  limit->add_option("RATE", options.rate, "500K, 20M, 1G; 0: no limit")
      ->required();
  auto* wait = app.add_subcommand("wait", "Return when it is so");
  wait->add_option("STATE", options.wait_for,
                   "complete: everything is on the disk; committed: the old "
                   "system is given up; settled: everything is in its place; "
                   "detached: and the driver is gone")
      ->required()
      ->check(CLI::IsMember({"complete", "committed", "settled", "detached"}));
  wait->add_option("--status-file", options.status_file,
                   "The driver's last word is here")
      ->capture_default_str();
  auto* dirty =
      app.add_subcommand("dirty",
                         "Bytes of the image that may differ from it, as JSON "
                         "[[offset, size], ...]");
  auto* trace = app.add_subcommand(
      "trace",
      "What has been read since the driver's start, in order, for "
      "'imgtool build --machine-trace'");
  trace->add_option("--out", options.trace_out,
                    "File for it, instead of the "
                    "standard output");
  auto* healthy = app.add_subcommand(
      "healthy",
      "Report that this system has come up as it should: from now "
      "on nothing is rolled back by itself");
  auto* check = app.add_subcommand(
      "check",
      "Compare what is on the disk with the image; what is wrong is "
      "fetched again");
  check
      ->add_option("SCOPE", options.check_scope,
                   "all, or boot: what firmware and boot loader read")
      ->check(CLI::IsMember({"all", "boot"}));
  check->add_flag("--json", options.as_json, "One JSON object");
  auto* rollback =
      app.add_subcommand("rollback", "Restart into the old system");
  rollback->add_flag("--yes", options.decision.yes, "Do not ask");
  rollback->add_flag("--no-restart", options.decision.no_restart,
                     "Only record the wish; the next start does it");
  rollback->add_flag("--json", options.decision.as_json,
                     "Say as one JSON object what was changed here");
  auto* commit = app.add_subcommand(
      "commit", "Give the old system up: there is no way back after that");
  commit->add_flag("--yes", options.decision.yes, "Do not ask");
  SourceCommand source(app);
  ClosureCommand closure(app);
  const GrowCommand grow(app);
  const RecoveryCommand recovery(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }

  if (const auto code = grow.Run(options.control)) return *code;
  if (const auto code = closure.Restart()) return *code;
  auto client = ControlClient::Connect(options.control);
  if (!client) {
    // It may have gone before we came.
    const bool gone =
        closure.may_lack_driver() ||
        (*wait && options.wait_for == "detached" &&
         HasDetached(options.status_file));
    return gone ? 0 : Fail(client.error());
  }
  if (const auto code = source.Run(*client)) return *code;
  if (const auto code = closure.Run(*client)) return *code;
  if (const auto code = recovery.Run(*client)) return *code;
  if (*status) return Status(*client, options);
  if (*wait) return Wait(*client, options);
  if (*dirty) return PrintDirty(*client);
  if (*trace) return Trace(*client, options);
  if (*healthy) return Simple(*client, {{"command", "healthy"}});
  if (*check) return Check(*client, options, closure);
  if (*rollback) return RunRollback(*client, options.decision);
  if (*commit) return RunCommit(*client, options.decision);
  if (*pause || *resume) {
    json request = {{"command", "backfill"},
                    {"action", *pause ? "pause" : "resume"}};
    if (options.when_quiet) request["when"] = "quiet";
    return Simple(*client, request);
  }
  if (*limit) {
    const auto rate = ParseRate(options.rate);
    if (!rate) {
      std::cerr << "streamctl: " << rate.error().message << "\n";
      return 2;
    }
    return Simple(*client, {{"command", "backfill"},
                            {"action", "limit"},
                            {"bytes_per_second", *rate}});
  }
  return 2;
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) { return bootstream::Main(argc, argv); }
