// JSON that people hand in: a plan of the agent, the server's configuration, a
// recorded boot.

#include <limits>

#include "bootagent/plan_steps.h"
#include "imgserver/boot_plan.h"
#include "imgserver/boot_trace.h"
#include "imgserver/config.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {

FUZZ_TARGET(plan_json) {
  const auto plan = ReadPlanJson(std::string(AsText(input)));
  if (!plan) return;
  Plan other;
  other.identity.size_bytes = plan->disk_size_bytes;
  other.identity.source_table_id = plan->source_table_id;
  other.identity.serial_sha256 = plan->serial_sha256;
  other.manifest_digest = plan->manifest_digest;
  other.source_partition = plan->source_partition;
  Require(CheckSamePlan(*plan, other).has_value(), "a plan is its own");
  other.identity.size_bytes ^= 1;
  Require(!CheckSamePlan(*plan, other), "another disk is refused");
}

FUZZ_TARGET(server_config) {
  const auto config = ParseConfig(AsText(input));
  if (!config) return;
  Require(config->header_bytes_max >= 512 && config->connections_max >= 1 &&
              config->send_timeout_ms >= 1 && config->threads <= 1024,
          "every limit is one");
}

FUZZ_TARGET(boot_trace) {
  constexpr uint64_t kDiskBytesMax = 1 << 30;
  const auto trace = ParseTrace(std::string(AsText(input)));
  if (!trace) return;
  for (const TraceRead& read : trace->reads) {
    Require(read.size > 0 && read.offset < trace->disk_bytes &&
                read.size <= trace->disk_bytes - read.offset,
            "reads lie inside the disk");
  }
  const auto again = ParseTrace(FormatTrace(*trace));
  Require(again && *again == *trace, "written and read again it is the same");
  if (trace->disk_bytes > kDiskBytesMax) return;
  const Grid grid{kChunkBytesMin, trace->disk_bytes};
  const auto plan = PlanBoot(grid, ImageLayout{}, *trace);
  Require(plan.has_value() == FindTakeOver(*trace).has_value(),
          "a boot is planned where the driver took over");
  if (!plan) return;
  for (const ChunkExtent& extent : plan->boot_set) {
    Require(extent.count > 0 && extent.first < grid.chunk_count() &&
                extent.count <= grid.chunk_count() - extent.first,
            "the boot set lies inside the image");
  }
}

}  // namespace bootstream
