#include "bootagent/plan_steps.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "blockmap/base/progress.h"
#include "blockmap/image/signing.h"

namespace bootstream {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint32_t kPlanFormat = 1;

std::string Chunks(uint64_t count, const Plan& plan) {
  return FormatBytes(count * plan.disk_grid.chunk_bytes);
}

void Row(std::ostream& out, const std::string& name, const std::string& text) {
  out << "  " << name
      << std::string(name.size() < 22 ? 22 - name.size() : 1, ' ') << text
      << "\n";
}

std::string WhenFullText(const Plan& plan) {
  if (plan.guaranteed) return "cannot happen before commit";
  return plan.give_up_source ? "give up the source" : "block writes";
}

Json AccountJson(const Plan& plan) {
  const Account& a = plan.account;
  return Json{{"chunk_bytes", plan.disk_grid.chunk_bytes},
              {"image_chunks", a.image},
              {"image_data_chunks", a.image_data},
              {"boot_set_chunks", a.boot_set},
              {"staging_chunks", a.boot_set},
              {"relocation_chunks_max", a.relocations},
              {"metadata_chunks", a.metadata},
              {"spare_chunks", a.spare},
              {"region_chunks", a.region},
              {"room_for_image_chunks", a.room_for_image},
              {"region_file_bytes", plan.region_file_bytes},
              {"source_free_bytes", plan.source_free_bytes},
              {"headroom_bytes", plan.headroom_bytes}};
}

Json UsersJson(const UserFitting& users) {
  const auto number = [](const std::optional<uint64_t>& bytes) {
    return bytes ? Json(*bytes) : Json();
  };
  return Json{{"user_data_bytes", number(users.space.user_bytes)},
              {"image_free_bytes", number(users.space.image_free_bytes)},
              {"fits", UserFitName(users.fit)},
              {"sentence", users.sentence}};
}

template <size_t N>
bool ReadHex(const Json& json, const char* key, std::array<std::byte, N>& out) {
  return FromHex(json.value(key, std::string()), out).has_value();
}

// Only a whole number that `T` can hold; no other is taken for one.
template <typename T>
bool ReadNumber(const Json& json, const char* key, T& out) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_unsigned() ||
      found->template get<uint64_t>() > std::numeric_limits<T>::max()) {
    return false;
  }
  out = found->template get<T>();
  return true;
}

}  // namespace

std::vector<PlanStep> DescribeSteps(const Plan& plan) {
  const uint64_t chunk = plan.disk_grid.chunk_bytes;
  const Account& a = plan.account;
  const std::string partition =
      "partition " + std::to_string(plan.source_partition);
  return {
      {"release",
       "allocate .bootstream-region on " + partition + ", " +
           FormatBytes(plan.region_file_bytes),
       plan.region_file_bytes},
      {"stage", "fetch and verify the boot set, " + Chunks(a.boot_set, plan),
       a.boot_set * chunk},
      {"relocate",
       "copy what lies in its way, at most " + Chunks(a.relocations, plan),
       a.relocations * chunk},
      {"stub", "make the old partition table invalid, write stub and anchor",
       4 * kSectorBytes + kAnchorBytes},
      {"write", "bring the boot set home, " + Chunks(a.boot_set, plan),
       a.boot_set * chunk},
      {"arm", "write the new partition tables", 0},
  };
}

std::string PlanText(const Plan& plan) {
  std::ostringstream out;
  const Account& a = plan.account;
  out << "Plan for " << plan.disk << ": " << plan.image_name << " "
      << plan.image_version << ", " << FormatBytes(plan.image.size_bytes)
      << "\n\nRoom\n";
  Row(out, "image",
      Chunks(a.image, plan) + ", of which " + Chunks(a.image_data, plan) +
          " hold data");
  Row(out, "boot set", Chunks(a.boot_set, plan) + ", staged first");
  Row(out, "relocations", "at most " + Chunks(a.relocations, plan));
  Row(out, "metadata", Chunks(a.metadata, plan));
  Row(out, "spare", Chunks(a.spare, plan));
  Row(out, "region",
      FormatBytes(plan.region_file_bytes) + " of " +
          FormatBytes(plan.source_free_bytes) + " free on partition " +
          std::to_string(plan.source_partition) + "; " +
          FormatBytes(plan.headroom_bytes) + " stay free");
  Row(out, "room for the image",
      Chunks(a.room_for_image, plan) +
          (plan.guaranteed ? ", guaranteed" : ", not guaranteed"));
  Row(out, "when it is full", WhenFullText(plan));
  Row(out, "users' data", plan.users.sentence);
  out << "\nSteps\n";
  for (const PlanStep& step : plan.steps) Row(out, step.name, step.text);
  return out.str();
}

std::string PlanJson(const Plan& plan,
                     const std::vector<std::string>& servers) {
  Json json;
  json["bootstream_plan"] = kPlanFormat;
  json["disk"] = plan.disk;
  json["disk_size_bytes"] = plan.identity.size_bytes;
  json["source_table_id"] = ToHex(plan.identity.source_table_id);
  json["serial_sha256"] = ToHex(plan.identity.serial_sha256);
  json["servers"] = servers;
  json["image"] = plan.image_name;
  json["version"] = plan.image_version;
  json["manifest_digest"] = ToHex(plan.manifest_digest);
  json["image_bytes"] = plan.image.size_bytes;
  json["source_partition"] = plan.source_partition;
  json["anchor_offset"] = plan.anchor_offset;
  json["guaranteed"] = plan.guaranteed;
  json["when_full"] = plan.guaranteed       ? ""
                      : plan.give_up_source ? "give-up-source"
                                            : "block";
  json["account"] = AccountJson(plan);
  json["users"] = UsersJson(plan.users);
  json["steps"] = Json::array();
  for (const PlanStep& step : plan.steps) {
    json["steps"].push_back(
        {{"name", step.name}, {"text", step.text}, {"bytes", step.bytes}});
  }
  // A path need not be UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<PlanReference> ReadPlanJson(const std::string& text) {
  const Error bad{ErrorCode::kInvalid,
                  "this is no plan that bootagent plan --out has written"};
  PlanReference plan;
  try {
    const Json json = Json::parse(text);
    uint32_t format = 0;
    if (!ReadNumber(json, "bootstream_plan", format) || format != kPlanFormat) {
      return bad;
    }
    plan.disk = json.value("disk", std::string());
    plan.image_name = json.value("image", std::string());
    plan.image_version = json.value("version", std::string());
    plan.when_full = json.value("when_full", std::string());
    plan.servers = json.value("servers", std::vector<std::string>());
    if (!ReadNumber(json, "disk_size_bytes", plan.disk_size_bytes) ||
        !ReadNumber(json, "source_partition", plan.source_partition) ||
        !ReadHex(json, "manifest_digest", plan.manifest_digest) ||
        !ReadHex(json, "source_table_id", plan.source_table_id) ||
        !ReadHex(json, "serial_sha256", plan.serial_sha256)) {
      return bad;
    }
  } catch (const nlohmann::json::exception&) {
    return bad;
  }
  return plan;
}

Status CheckSamePlan(const PlanReference& wanted, const Plan& plan) {
  const auto differs = [](const char* what) {
    return Error{ErrorCode::kRefused,
                 std::string("the plan is for another ") + what +
                     "; make a new one with bootagent plan"};
  };
  if (wanted.disk_size_bytes != plan.identity.size_bytes ||
      wanted.source_table_id != plan.identity.source_table_id ||
      wanted.serial_sha256 != plan.identity.serial_sha256) {
    return differs("disk");
  }
  if (wanted.manifest_digest != plan.manifest_digest) return differs("image");
  if (wanted.source_partition != plan.source_partition) {
    return differs("source partition");
  }
  return OkStatus();
}

}  // namespace bootstream
