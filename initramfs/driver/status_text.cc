#include "initramfs/driver/status_text.h"

#include <cmath>
#include <cstdio>

namespace bootstream {
namespace {

using nlohmann::json;

void PrintSettling(const json& settle, Rate& rate) {
  const std::string state = settle.at("state");
  if (state == "none") return;
  const auto all = settle.at("chunks").get<double>();
  const auto done = settle.at("settled").get<double>();
  std::printf("settling   %s, %.1f %% at home", state.c_str(),
              all == 0 ? 100 : done / all * 100);
  const auto seconds = rate.SecondsFor(done, all - done);
  if (state == "running" && seconds) {
    std::printf(", %.0f minutes left", std::ceil(*seconds / 60));
  }
  std::printf("\n");
  const std::string failure = settle.at("failure");
  if (!failure.empty()) std::printf("trouble    %s\n", failure.c_str());
}

// Where nothing is to be said, nothing is.
void PrintSpace(const json& space) {
  if (space.at("level") == "ok") return;
  std::printf("space      %s: %s\n",
              space.at("level").get<std::string>().c_str(),
              space.at("sentence").get<std::string>().c_str());
}

void PrintRecoverySet(const json& set) {
  const std::string sentence = set.value("sentence", "");
  if (!sentence.empty()) std::printf("recovery   %s\n", sentence.c_str());
}

}  // namespace

void PrintStatus(const json& status, Rate& rate) {
  const json& image = status.at("image");
  const json& chunks = status.at("chunks");
  const json& source = status.at("source");
  const auto data = chunks.at("data").get<double>();
  const auto local = chunks.at("local").get<double>();
  const bool given_up = status.at("committed").get<bool>();
  std::printf("phase      %s%s\n",
              status.at("phase").get<std::string>().c_str(),
              given_up ? ", the old system is given up" : "");
  std::printf("image      %s %s, %s\n",
              image.at("name").get<std::string>().c_str(),
              image.at("version").get<std::string>().c_str(),
              Amount(image.at("bytes").get<double>()).c_str());
  std::printf("device     %s (%s) on %s\n",
              status.at("device").get<std::string>().c_str(),
              status.at("frontend").get<std::string>().c_str(),
              status.at("disk").get<std::string>().c_str());
  const auto restarts = status.at("restarts").get<unsigned>();
  if (restarts != 0) std::printf("restarted  %u times\n", restarts);
  std::printf("local      %.1f %% (%.0f of %.0f chunks), %s written here\n",
              data == 0 ? 100 : local / data * 100, local, data,
              Amount(chunks.at("dirty_blocks").get<double>() * 4096).c_str());
  std::printf("backfill   %s\n",
              status.at("backfill").at("state").get<std::string>().c_str());
  std::printf(
      "received   %s in %llu requests\n",
      Amount(source.at("bytes_received").get<double>()).c_str(),
      static_cast<unsigned long long>(source.at("requests").get<uint64_t>()));
  if (source.at("waiting").get<bool>()) {
    std::printf("waiting    %s\n",
                source.at("failure").get<std::string>().c_str());
  }
  if (source.at("dated_certificates").get<uint64_t>() > 0) {
    std::printf(
        "warning    a server's certificate is not valid at this time; its "
        "chunks are checked and taken\n");
  }
  if (status.at("engine").at("io_errors").get<uint64_t>() > 0) {
    std::printf(
        "warning    the disk is failing: %.0f I/O errors; streamd's "
        "log has the places\n",
        status.at("engine").at("io_errors").get<double>());
  }
  PrintSpace(status.at("space"));
  PrintRecoverySet(status.value("recovery_set", json::object()));
  PrintSettling(status.at("settle"), rate);
  const json attached = status.value("source_device", json());
  if (attached.is_string()) {
    std::printf("source     %s, read-only\n",
                attached.get<std::string>().c_str());
  }
  const std::string failure = status.at("backfill").at("failure");
  if (!failure.empty()) std::printf("trouble    %s\n", failure.c_str());
}

std::string Amount(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", bytes,
                units[unit]);
  return text;
}

}  // namespace bootstream
