// imgtool: makes, checks and lists images in a repository.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "blockmap/base/file_util.h"
#include "imgserver/boot_recorder.h"
#include "imgserver/image_builder.h"
#include "imgserver/image_show.h"
#include "imgserver/image_verifier.h"
#include "imgserver/repository.h"

namespace bootstream {
namespace {

constexpr int kExitUsage = 2;

// What the commands that read a repository have in common.
struct ReadOptions {
  std::string repository;
  std::string public_key;
  std::string image;
  bool json = false;
};

int Fail(const Error& error) {
  std::fprintf(stderr, "imgtool: %s\n", error.message.c_str());
  return ExitCodeFor(error.code);
}

int Print(const Result<std::string>& text) {
  if (!text) return Fail(text.error());
  std::fputs(text->c_str(), stdout);
  return 0;
}

Result<std::optional<TrustedKeys>> LoadKeys(const std::string& path) {
  if (path.empty()) return std::optional<TrustedKeys>();
  auto key = PublicKey::Load(path);
  if (!key) return key.error();
  std::optional<TrustedKeys> keys(std::in_place);
  keys->Add(std::move(*key));
  return keys;
}

int Keygen(const std::string& out) {
  const auto key = PrivateKey::Generate();
  if (!key) return Fail(key.error());
  if (auto status = key->Save(out); !status) return Fail(status.error());
  std::printf(
      "%s is the private key: keep it secret\n"
      "%s.pub is the public key: it goes to the machines\n",
      out.c_str(), out.c_str());
  return 0;
}

int Build(const BuildOptions& options, bool json) {
  Progress progress;
  const auto report = BuildImage(options, progress);
  if (!report) return Fail(report.error());
  for (const auto& warning : report->warnings) {
    std::fprintf(stderr, "imgtool: warning: %s\n", warning.c_str());
  }
  return Print(ShowBuild(options, *report, json));
}

int Trace(const RecordOptions& options, const std::string& out) {
  Progress progress;
  const auto trace = RecordBoot(options, progress);
  if (!trace) return Fail(trace.error());
  const std::string text = FormatTrace(*trace);
  const auto status = WriteFileDurably(out, std::as_bytes(std::span(text)),
                                       0644, IfExists::kReplace);
  if (!status) return Fail(status.error());
  const auto mark = FindTakeOver(*trace).value_or(0);
  std::printf("%s: %zu reads, %zu of them before the take-over at %.1f s\n",
              out.c_str(), trace->reads.size(), mark,
              static_cast<double>(trace->reads[mark].ms) / 1000);
  return 0;
}

int Verify(const ReadOptions& options) {
  const auto keys = LoadKeys(options.public_key);
  if (!keys) return Fail(keys.error());
  const auto repository = Repository::Open(options.repository);
  if (!repository) return Fail(repository.error());
  std::optional<ImageReference> image;
  if (!options.image.empty()) {
    auto reference = ParseImageReference(options.image);
    if (!reference) return Fail(reference.error());
    image = std::move(*reference);
  }
  Progress progress;
  const auto report = VerifyRepository(*repository, **keys, image, progress);
  if (!report) return Fail(report.error());
  for (const auto& fault : report->faults) {
    std::fprintf(stderr, "imgtool: %s\n", fault.c_str());
  }
  Print(ShowVerify(*report, options.json));
  return report->faults.empty() ? 0 : 1;
}

// ls, or with an image show.
int Show(const ReadOptions& options) {
  const auto keys = LoadKeys(options.public_key);
  if (!keys) return Fail(keys.error());
  const TrustedKeys* const trusted = *keys ? &**keys : nullptr;
  const auto repository = Repository::Open(options.repository);
  if (!repository) return Fail(repository.error());
  if (options.image.empty()) {
    return Print(ListImages(*repository, trusted, options.json));
  }
  const auto image = ParseImageReference(options.image);
  if (!image) return Fail(image.error());
  return Print(ShowImage(*repository, *image, trusted, options.json));
}

CLI::App* AddBuild(CLI::App& app, BuildOptions& options, bool& json) {
  CLI::App* const it = app.add_subcommand(
      "build", "Make an image of a disk and publish it in a repository.");
  it->add_option("--disk", options.disk, "Raw disk file, GPT or MBR")
      ->required();
  it->add_option("--name", options.name, "Name of the image")->required();
  it->add_option("--version", options.version, "Version, as 13 or 13.2.0.7")
      ->required();
  it->add_option("--repo", options.repository,
                 "Folder of the repository; made if it is not there")
      ->required();
  it->add_option("--key", options.key_file, "Private key (imgtool keygen)")
      ->required();
  it->add_option("--trace", options.trace_file,
                 "The watched boot (imgtool trace)");
  it->add_option("--machine-trace", options.machine_trace_files,
                 "What a machine has read of an earlier build of this disk "
                 "(streamctl trace): is fetched ahead too; may be repeated")
      ->take_all();
  it->add_option("--boot-partition", options.boot_partition,
                 "Number of the /boot partition, if it is not found");
  it->add_flag("--grow", options.grow,
               "When all has settled, table, last partition and its file "
               "system grow to the machine's whole disk");
  it->add_option("--kernel-command-line", options.kernel_command_line,
                 "What the image's kernel is started with; for information");
  it->add_option("--base-url", options.base_urls,
                 "Repository URL that has the packs; may be repeated")
      ->take_all();
  it->add_option("--chunk-size", options.chunk_bytes,
                 "Bytes of a chunk: 65536, 131072 or 262144")
      ->capture_default_str();
  it->add_option("--level", options.level, "zstd level")
      ->check(CLI::Range(1, 22))
      ->capture_default_str();
  it->add_option("--threads", options.thread_count,
                 "Threads; 0: one for each processor")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  it->add_flag("--json", json, "Print the result as JSON");
  return it;
}

CLI::App* AddTrace(CLI::App& app, RecordOptions& options, std::string& out,
                   int& timeout_s) {
  static const std::map<std::string, Firmware> kFirmware = {
      {"uefi", Firmware::kUefi}, {"bios", Firmware::kBios}};
  CLI::App* const it =
      app.add_subcommand("trace", "Boot a disk in QEMU and log what it reads.");
  it->add_option("--disk", options.disk, "Raw disk file; is not changed")
      ->required();
  it->add_option("--out", out, "The trace (imgserver/trace.md)")->required();
  it->add_option("--firmware", options.firmware, "uefi or bios")
      ->transform(CLI::CheckedTransformer(kFirmware));
  it->add_option("--until", options.until,
                 "What the serial console shows at the end")
      ->capture_default_str();
  it->add_option("--timeout", timeout_s, "Seconds")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  it->add_option("--memory", options.memory_mib, "MiB of the machine")
      ->check(CLI::Range(64, 1 << 20))
      ->capture_default_str();
  it->add_option("--accel", options.accel, "QEMU accelerator")
      ->capture_default_str();
  it->add_option("--console", options.console_file,
                 "Keep what the serial console says here");
  return it;
}

CLI::App* AddReader(CLI::App& app, const char* name, const char* what,
                    ReadOptions& options) {
  CLI::App* const it = app.add_subcommand(name, what);
  it->add_option("--repo", options.repository, "Folder of the repository")
      ->required();
  it->add_option("--pubkey", options.public_key,
                 "Public key that must have signed");
  it->add_flag("--json", options.json, "Print JSON");
  return it;
}

int Main(int argc, char** argv) {
  CLI::App app("Makes, checks and lists images in a repository.", "imgtool");
  app.set_version_flag("--version", "imgtool " BOOTSTREAM_VERSION);
  app.require_subcommand(1);

  std::string key_out;
  CLI::App* const keygen =
      app.add_subcommand("keygen", "Make a key pair (Ed25519, PEM).");
  keygen->add_option("--out", key_out, "Private key; the public one: .pub")
      ->required();

  BuildOptions build_options;
  bool build_json = false;
  const CLI::App* const build = AddBuild(app, build_options, build_json);

  RecordOptions record;
  std::string trace_out;
  int timeout_s = static_cast<int>(record.timeout.count());
  const CLI::App* const trace = AddTrace(app, record, trace_out, timeout_s);

  ReadOptions read;
  CLI::App* const verify = AddReader(
      app, "verify", "Check every digest of an image, or of all.", read);
  verify->get_option("--pubkey")->required();
  verify->add_option("image", read.image, "NAME[:VERSION]; none: all of them");
  AddReader(app, "ls", "List the images of a repository.", read);
  CLI::App* const show =
      AddReader(app, "show", "Show what an image consists of.", read);
  show->add_option("image", read.image, "NAME[:VERSION]")->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (keygen->parsed()) return Keygen(key_out);
  if (build->parsed()) return Build(build_options, build_json);
  record.timeout = std::chrono::seconds(timeout_s);
  if (trace->parsed()) return Trace(record, trace_out);
  if (verify->parsed()) return Verify(read);
  return Show(read);
}

}  // namespace
}  // namespace bootstream

int main(int argc, char** argv) { return bootstream::Main(argc, argv); }
