#include "imgserver/request_path.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace bootstream {
namespace {

constexpr Refusal kNotFound{404, "There is no such file."};
constexpr Refusal kNotAPath{400, "The request's target is not a path."};
constexpr Refusal kBadEscape{400, "The path has a % that is no escape."};

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsControl(unsigned char c) { return c < 0x20 || c == 0x7f; }

// One segment between slashes, decoded and checked.
tl::expected<std::string, Refusal> DecodeSegment(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (text.size() - i < 3) return tl::unexpected(kBadEscape);
      const int high = HexDigit(text[i + 1]);
      const int low = HexDigit(text[i + 2]);
      if (high < 0 || low < 0) return tl::unexpected(kBadEscape);
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (c == '/' || IsControl(static_cast<unsigned char>(c))) {
      return tl::unexpected(kNotFound);
    }
    out.push_back(c);
  }
  if (out.empty() || out.front() == '.') return tl::unexpected(kNotFound);
  return out;
}

// The path of "/a/b?query" or "http://host/a/b", or nothing.
std::optional<std::string_view> PathOf(std::string_view target) {
  constexpr std::string_view kScheme = "http://";
  if (target.starts_with(kScheme)) {
    const size_t slash = target.find('/', kScheme.size());
    if (slash == std::string_view::npos) return std::nullopt;
    target.remove_prefix(slash);
  }
  if (!target.starts_with('/')) return std::nullopt;
  return target.substr(0, target.find_first_of("?#"));
}

bool IsDigest(std::string_view name) {
  return name.size() == 64 && std::ranges::all_of(name, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

tl::expected<RequestPath, Refusal> DecodeRequestPath(std::string_view target) {
  const auto path = PathOf(target);
  if (!path) return tl::unexpected(kNotAPath);

  std::vector<std::string> segments;
  for (size_t at = 1; at <= path->size();) {
    const size_t slash = std::min(path->find('/', at), path->size());
    auto segment = DecodeSegment(path->substr(at, slash - at));
    if (!segment) return tl::unexpected(segment.error());
    segments.push_back(*std::move(segment));
    at = slash + 1;
    if (slash + 1 == path->size()) return tl::unexpected(kNotFound);
  }
  constexpr std::array<std::string_view, 3> kFolders = {"images", "packs",
                                                        "boot"};
  if (segments.size() < 2 ||
      std::ranges::find(kFolders, segments[0]) == kFolders.end()) {
    return tl::unexpected(kNotFound);
  }

  RequestPath out;
  out.folder = segments[0];
  out.is_pack = segments[0] == "packs" && segments.size() == 3 &&
                IsDigest(segments[2]) && segments[2].starts_with(segments[1]) &&
                segments[1].size() == 2;
  out.is_immutable =
      out.is_pack || (segments[0] == "images" && segments.size() >= 4);
  for (size_t i = 1; i < segments.size(); ++i) {
    if (i > 1) out.rest.push_back('/');
    out.rest += segments[i];
  }
  return out;
}

}  // namespace bootstream
