#include "imgserver/image_show.h"

#include <nlohmann/json.hpp>

#include "blockmap/base/progress.h"
#include "blockmap/image/signing.h"

namespace bootstream {
namespace {

using Json = nlohmann::ordered_json;

struct Totals {
  uint64_t data_bytes = 0;
  uint64_t packed_bytes = 0;
  uint64_t boot_chunks = 0;
  uint64_t boot_packed_bytes = 0;
  uint64_t pinned_chunks = 0;
  uint64_t prefetch_chunks = 0;
};

Totals TotalsOf(const Manifest& manifest) {
  const ManifestContent& content = manifest.content();
  Totals totals;
  for (const ChunkRun& run : content.runs) {
    for (uint64_t i = 0; i < run.count; ++i) {
      totals.data_bytes += manifest.grid().bytes_of(run.first + i);
      totals.packed_bytes += content.chunks[run.entry + i].packed_bytes;
    }
  }
  for (const ChunkExtent& extent : content.boot_set) {
    totals.boot_chunks += extent.count;
    for (uint64_t i = 0; i < extent.count; ++i) {
      const auto* entry = manifest.Find(ImageChunk{extent.first + i});
      if (entry != nullptr) totals.boot_packed_bytes += entry->packed_bytes;
    }
  }
  for (const auto& extent : content.pinned) {
    totals.pinned_chunks += extent.count;
  }
  for (const auto& entry : content.prefetch) {
    totals.prefetch_chunks += entry.count;
  }
  return totals;
}

// What a manifest or a folder says need not be UTF-8.
std::string Text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json Extents(const std::vector<ChunkExtent>& extents) {
  Json out = Json::array();
  for (const auto& extent : extents) {
    out.push_back({{"first", extent.first}, {"count", extent.count}});
  }
  return out;
}

Json ManifestJson(const Manifest& manifest, bool checked) {
  const ManifestContent& content = manifest.content();
  const Totals totals = TotalsOf(manifest);
  Json out = {
      {"name", content.name},
      {"version", content.version},
      {"manifest_digest", ToHex(manifest.digest())},
      {"signature_checked", checked},
      {"image_bytes", content.image_bytes},
      {"chunk_bytes", content.chunk_bytes},
      {"data_chunks", content.chunks.size()},
      {"data_bytes", totals.data_bytes},
      {"packed_bytes", totals.packed_bytes},
      {"boot_set_chunks", totals.boot_chunks},
      {"boot_set_packed_bytes", totals.boot_packed_bytes},
      {"pinned_chunks", totals.pinned_chunks},
      {"prefetch_chunks", totals.prefetch_chunks},
      {"kernel_command_line", content.kernel_command_line},
      {"base_urls", content.base_urls},
      {"table_id", ToHex(content.table_id)},
      {"grow", content.grow},
      {"boot_set", Extents(content.boot_set)},
      {"pinned", Extents(content.pinned)},
      {"tables", Json::array()},
      {"packs", Json::array()},
  };
  for (const ByteExtent& table : content.tables) {
    out["tables"].push_back({{"offset", table.offset}, {"size", table.size}});
  }
  for (const PackEntry& pack : content.packs) {
    out["packs"].push_back(
        {{"digest", ToHex(pack.digest)}, {"size_bytes", pack.size_bytes}});
  }
  return out;
}

std::string ManifestText(const Manifest& manifest, bool checked) {
  const ManifestContent& content = manifest.content();
  const Totals totals = TotalsOf(manifest);
  std::string out;
  const auto line = [&out](std::string key, const std::string& value) {
    key.resize(12, ' ');
    out += key + value + "\n";
  };
  line("image", content.name + ":" + content.version);
  line("manifest",
       ToHex(manifest.digest()) + (checked ? "" : "  (signature not checked)"));
  line("size", FormatBytes(content.image_bytes) + ", of which " +
                   FormatBytes(totals.data_bytes) + " are not zero, " +
                   FormatBytes(totals.packed_bytes) + " compressed");
  line("chunks", std::to_string(content.chunks.size()) + " of " +
                     FormatBytes(content.chunk_bytes) + ", in " +
                     std::to_string(content.packs.size()) + " packs");
  line("boot set", std::to_string(totals.boot_chunks) + " chunks, " +
                       FormatBytes(totals.boot_packed_bytes) + " compressed");
  line("pinned", std::to_string(totals.pinned_chunks) + " chunks");
  line("prefetch", std::to_string(totals.prefetch_chunks) + " chunks");
  line("grow", content.grow ? "to the whole disk, when all has settled" : "no");
  for (const auto& url : content.base_urls) line("packs from", url);
  if (!content.kernel_command_line.empty()) {
    line("command", content.kernel_command_line);
  }
  return out;
}

}  // namespace

Result<std::string> ListImages(const Repository& repository,
                               const TrustedKeys* keys, bool json) {
  const auto versions = repository.Versions();
  if (!versions) return versions.error();
  Json list = Json::array();
  std::string text;
  for (const auto& version : *versions) {
    const auto manifest = Repository::Load(version, keys);
    const std::string title = version.name + ":" + version.version;
    if (!manifest) {
      text += title + "  unusable: " + manifest.error().message + "\n";
      list.push_back({{"name", version.name},
                      {"version", version.version},
                      {"error", manifest.error().message}});
      continue;
    }
    const Totals totals = TotalsOf(*manifest);
    const auto& content = manifest->content();
    text += title + "  " + FormatBytes(content.image_bytes) + "  " +
            FormatBytes(totals.packed_bytes) + " compressed  boot set " +
            FormatBytes(totals.boot_packed_bytes) + "\n";
    list.push_back({{"name", version.name},
                    {"version", version.version},
                    {"manifest_digest", ToHex(manifest->digest())},
                    {"signature_checked", keys != nullptr},
                    {"image_bytes", content.image_bytes},
                    {"packed_bytes", totals.packed_bytes}});
  }
  return json ? Text(list) : text;
}

Result<std::string> ShowImage(const Repository& repository,
                              const ImageReference& image,
                              const TrustedKeys* keys, bool json) {
  const auto versions = repository.Versions();
  if (!versions) return versions.error();
  const Repository::Version* found = nullptr;  // the highest that fits
  for (const auto& version : *versions) {
    if (version.name == image.name &&
        (image.version.empty() || image.version == version.version)) {
      found = &version;
    }
  }
  if (found == nullptr) {
    return Error{ErrorCode::kNotFound,
                 repository.folder() + " has no image " + image.name +
                     (image.version.empty() ? "" : ":") + image.version};
  }
  const auto manifest = Repository::Load(*found, keys);
  if (!manifest) return manifest.error();
  const bool checked = keys != nullptr;
  return json ? Text(ManifestJson(*manifest, checked))
              : ManifestText(*manifest, checked);
}

std::string ShowBuild(const BuildOptions& options, const BuildReport& report,
                      bool json) {
  if (json) {
    return Text({{"name", options.name},
                 {"version", options.version},
                 {"manifest_digest", ToHex(report.manifest_digest)},
                 {"image_bytes", report.image_bytes},
                 {"data_chunks", report.data_chunk_count},
                 {"data_bytes", report.data_bytes},
                 {"packed_bytes", report.packed_bytes},
                 {"new_packed_bytes", report.new_packed_bytes},
                 {"new_packs", report.new_pack_count},
                 {"boot_set_chunks", report.boot_chunk_count},
                 {"boot_set_packed_bytes", report.boot_packed_bytes},
                 {"prefetch_chunks", report.prefetch_chunk_count},
                 {"already_published", report.already_published},
                 {"latest", report.is_latest},
                 {"warnings", report.warnings}});
  }
  return options.name + ":" + options.version +
         (report.already_published ? " was published already: "
                                   : " is published: ") +
         FormatBytes(report.data_bytes) + " of " +
         FormatBytes(report.image_bytes) + " are not zero, " +
         FormatBytes(report.packed_bytes) + " compressed, " +
         FormatBytes(report.new_packed_bytes) + " of them new; boot set " +
         std::to_string(report.boot_chunk_count) + " chunks, " +
         FormatBytes(report.boot_packed_bytes) + " compressed\nmanifest " +
         ToHex(report.manifest_digest) + "\n";
}

std::string ShowVerify(const VerifyReport& report, bool json) {
  if (json) {
    return Text({{"manifests", report.manifest_count},
                 {"packs", report.pack_count},
                 {"chunks", report.chunk_count},
                 {"packed_bytes", report.packed_bytes},
                 {"faults", report.faults}});
  }
  return std::to_string(report.manifest_count) + " manifests, " +
         std::to_string(report.pack_count) + " packs, " +
         std::to_string(report.chunk_count) + " chunks, " +
         FormatBytes(report.packed_bytes) + ": " +
         (report.faults.empty()
              ? "all right"
              : std::to_string(report.faults.size()) + " faults") +
         "\n";
}

}  // namespace bootstream
