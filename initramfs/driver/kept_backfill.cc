#include "initramfs/driver/kept_backfill.h"

#include <nlohmann/json.hpp>

namespace bootstream {

using nlohmann::json;

std::string BackfillToKeep(const Backfill& backfill) {
  const json state = {{"paused", backfill.state() == Backfill::State::kPaused},
                      {"limit", backfill.limit_bytes_per_second()}};
  return state.dump();
}

Backfill::Options WithKeptBackfill(Backfill::Options options,
                                   std::string_view text) {
  const json state = json::parse(text, nullptr, false);
  if (!state.is_object()) return options;
  const json paused = state.value("paused", json());
  const json limit = state.value("limit", json());
  if (paused.is_boolean()) options.start_paused = paused.get<bool>();
  if (limit.is_number_unsigned()) {
    options.bytes_per_second = limit.get<uint64_t>();
  }
  return options;
}

}  // namespace bootstream
