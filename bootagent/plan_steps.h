#ifndef BOOTAGENT_PLAN_STEPS_H_
#define BOOTAGENT_PLAN_STEPS_H_

#include <string>
#include <vector>

#include "bootagent/plan.h"

// A plan for people and for scripts.  Pure.

namespace bootstream {

// The steps in their order; everything else in `plan` is filled in.
std::vector<PlanStep> DescribeSteps(const Plan& plan);

std::string PlanText(const Plan& plan);

// JSON; ReadPlanJson gets back what `migrate --plan` must know.
std::string PlanJson(const Plan& plan, const std::vector<std::string>& servers);

struct PlanReference {
  std::string disk;
  std::string image_name;
  std::string image_version;
  Sha256 manifest_digest{};
  uint64_t disk_size_bytes = 0;
  std::array<std::byte, 16> source_table_id{};
  Sha256 serial_sha256{};
  uint32_t source_partition = 0;
  std::string when_full;  // "", "block", "give-up-source"
  std::vector<std::string> servers;
};
// kInvalid: not a plan of ours.
Result<PlanReference> ReadPlanJson(const std::string& text);
// kRefused if `plan` is not for the same disk, image and source any more.
Status CheckSamePlan(const PlanReference& wanted, const Plan& plan);

}  // namespace bootstream

#endif  // BOOTAGENT_PLAN_STEPS_H_
