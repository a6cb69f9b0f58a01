// imgserver: serves a repository of images.

#include <CLI/CLI.hpp>
#include <cstdio>

#include "imgserver/serve_main.h"

namespace {

constexpr int kExitUsage = 2;

int Finish(const bootstream::Status& status) {
  if (status) return 0;
  std::fprintf(stderr, "imgserver: %s\n", status.error().message.c_str());
  return bootstream::ExitCodeFor(status.error().code);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Serves a repository of images over HTTP.", "imgserver");
  app.set_version_flag("--version", "imgserver " BOOTSTREAM_VERSION);
  app.require_subcommand(1);

  bootstream::ServeOptions serve;
  CLI::App* const command = app.add_subcommand(
      "serve",
      "Serve images/, packs/ and boot/ of a repository until told to "
      "stop (SIGTERM).");
  command->add_option("--repo", serve.repo, "Folder of the repository")
      ->required();
  command
      ->add_option("--listen", serve.listen,
                   "ADDRESS:PORT, as 0.0.0.0:8080 or [::]:8080; port 0 "
                   "takes any")
      ->required();
  command->add_option("--config", serve.config_file,
                      "JSON file with limits (imgserver/protocol.md)");
  command->add_option("--access-log", serve.access_log,
                      "Append the access log here, not to standard output");
  command->add_option("--port-file", serve.port_file,
                      "Write the port here once it is open");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  return Finish(bootstream::RunServe(serve));
}
