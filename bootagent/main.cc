#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>

#include "blockmap/image/least_rights.h"
#include "bootagent/commands.h"

// Options, wiring and exit codes; no decisions.

namespace bootstream {
namespace {

constexpr int kUsage = 2;

void AddDisk(CLI::App& command, CommandOptions& options) {
  command.add_option("--disk", options.disk,
                     "disk or disk file; may be left out where there is one");
  command
      .add_option("--serial", options.serial,
                  "serial number of a disk file, which has none")
      ->group("");
}

void AddTuning(CLI::App& command, CommandOptions& options) {
  command.add_option("--give-up", options.give_up_seconds)->group("");
  command.add_option("--stall-timeout-ms", options.stall_timeout_ms)->group("");
  command.add_option("--batch-chunks", options.batch_chunks)
      ->group("")
      ->check(CLI::Range(1, 1024));
}

void AddImage(CLI::App& command, CommandOptions& options) {
  AddDisk(command, options);
  command.add_option("--server", options.servers,
                     "repository of images (repeatable, tried in order)");
  command.add_option("--image", options.image, "NAME or NAME:VERSION");
  command.add_option("--pubkey", options.public_key,
                     "PEM file of the key that must have signed the image");
  command.add_option("--ca", options.ca,
                     "PEM file of the authorities that may have signed the "
                     "server's certificate, and no others");
  command.add_option("--min-version", options.min_versions,
                     "refuse images older than this (repeatable, the highest "
                     "counts)");
  command.add_option("--region", options.region,
                     "partition whose ext4 gives the space (number)");
  command.add_option("--when-full", options.when_full,
                     "block | give-up-source: what happens when a region that "
                     "is smaller than the image is full");
  command.add_option("--network", options.network,
                     "network facts for the new system (kernel ip= syntax)");
  command.add_option("--headroom", options.headroom_bytes)->group("");
  AddTuning(command, options);
}

void AddStops(CLI::App& command, CommandOptions& options) {
  command.add_option("--stop-at", options.stop_at)->group("");
}

using Command = std::function<Status(const CommandOptions&)>;

struct Parsed {
  CommandOptions options;
  Command command;
};

void DefinePlanning(CLI::App& app, Parsed& parsed) {
  CommandOptions& options = parsed.options;
  auto* plan = app.add_subcommand("plan", "say what a migration would do");
  AddImage(*plan, options);
  plan->add_option("--out", options.plan_out, "write the plan to a file");
  plan->add_flag("--json", options.json, "print JSON");
  plan->callback([&] { parsed.command = RunPlan; });
  auto* migrate = app.add_subcommand(
      "migrate", "move this disk to an image, or go on with that");
  AddImage(*migrate, options);
  AddStops(*migrate, options);
  migrate->add_option("--plan", options.plan_in,
                      "as bootagent plan --out said");
  migrate->add_flag("--yes", options.yes, "do not ask");
  migrate->add_flag("--dry-run", options.dry_run, "only print the plan");
  migrate->add_flag("--json", options.json, "with --dry-run: print JSON");
  migrate->callback([&] { parsed.command = RunMigrate; });
}

void DefineOthers(CLI::App& app, Parsed& parsed) {
  CommandOptions& options = parsed.options;
  auto* rollback = app.add_subcommand("rollback",
                                      "put the old system back, or go on with "
                                      "that; the new one stays, parked");
  AddDisk(*rollback, options);
  AddStops(*rollback, options);
  rollback->add_flag("--yes", options.yes, "do not ask");
  rollback->add_option("--if-unhealthy", options.if_unhealthy,
                       "only if the new system has not come up in so many "
                       "boots, and never did");
  rollback->add_option("--batch-chunks", options.batch_chunks)->group("");
  rollback->callback([&] { parsed.command = RunRollback; });
  auto* back = app.add_subcommand(
      "return",
      "bring a parked system back with all that it wrote, or go on with that");
  AddDisk(*back, options);
  back->add_option("--server", options.servers,
                   "repository of images (repeatable), instead of those that "
                   "the migration remembers");
  back->add_option("--ca", options.ca, "PEM file of certificates to trust");
  back->add_flag("--yes", options.yes, "do not ask");
  back->add_flag("--offline", options.offline, "fetch nothing");
  AddStops(*back, options);
  AddTuning(*back, options);
  back->callback([&] { parsed.command = RunReturn; });
  auto* forget = app.add_subcommand(
      "forget", "give up a parked system and remove the region file");
  AddDisk(*forget, options);
  forget->add_flag("--yes", options.yes, "do not ask");
  forget->callback([&] { parsed.command = RunForget; });
  auto* status = app.add_subcommand("status", "what is on the disk");
  AddDisk(*status, options);
  status->add_flag("--json", options.json, "print JSON, one line");
  status->callback([&] { parsed.command = RunStatus; });
  auto* check = app.add_subcommand(
      "check", "compare what is on the disk with what should be");
  AddDisk(*check, options);
  check->callback([&] { parsed.command = RunCheck; });
  auto* boot = app.add_subcommand("boot-disk",
                                  "let the next start be from the disk (UEFI)");
  AddDisk(*boot, options);
  boot->callback([&] { parsed.command = RunBootDisk; });
}

int Main(int argc, char** argv) {
  ForbidNewRights();
  CLI::App app(
      "Moves a computer from the system on its disk to an image, and back.",
      "bootagent");
  app.set_version_flag("--version", "bootagent " BOOTSTREAM_VERSION);
  app.require_subcommand(1);
  Parsed parsed;
  DefinePlanning(app, parsed);
  DefineOthers(app, parsed);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  const Status status = parsed.command(parsed.options);
  if (status) return 0;
  std::cerr << "bootagent: " << status.error().message << "\n";
  return status.error().code == ErrorCode::kInvalid
             ? kUsage
             : ExitCodeFor(status.error().code);
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) { return bootstream::Main(argc, argv); }
