#include "initramfs/source/accounts.h"

#include <algorithm>
#include <charconv>

#include "blockmap/base/file_util.h"
#include "initramfs/source/in_root.h"

namespace bootstream {
namespace {

constexpr uint64_t kFileBytesMax = uint64_t{16} << 20;

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t at = 0;;) {
    const size_t end = text.find(separator, at);
    parts.emplace_back(text.substr(at, end - at));
    if (end == std::string_view::npos) return parts;
    at = end + 1;
  }
}

// The fields of each line with at least `fields_min`.
std::vector<std::vector<std::string>> ReadTable(const std::string& root,
                                                const std::string& file,
                                                size_t fields_min) {
  std::vector<std::vector<std::string>> table;
  const auto path = ResolveInRoot(root, file);
  if (!path) return table;
  const auto bytes = ReadWholeFile(*path, kFileBytesMax);
  if (!bytes) return table;
  const std::string_view text(reinterpret_cast<const char*>(bytes->data()),
                              bytes->size());
  for (const std::string& line : Split(text, '\n')) {
    auto fields = Split(line, ':');
    if (fields.size() >= fields_min && !fields[0].empty()) {
      table.push_back(std::move(fields));
    }
  }
  return table;
}

}  // namespace

std::optional<uint32_t> ParseId(std::string_view text) {
  uint32_t id = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, id);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != end) {
    return std::nullopt;
  }
  return id;
}

Accounts Accounts::Of(const std::string& root) {
  Accounts accounts;
  for (const auto& fields : ReadTable(root, "etc/passwd", 6)) {
    const auto uid = ParseId(fields[2]);
    const auto gid = ParseId(fields[3]);
    if (uid && gid) {
      accounts.users.push_back({fields[0], *uid, *gid, fields[5]});
    }
  }
  for (const auto& fields : ReadTable(root, "etc/group", 3)) {
    const auto gid = ParseId(fields[2]);
    if (gid) accounts.groups.push_back({fields[0], *gid});
  }
  return accounts;
}

const User* Accounts::FindUser(std::string_view name) const {
  const auto found = std::ranges::find(users, name, &User::name);
  return found == users.end() ? nullptr : &*found;
}

const User* Accounts::FindUser(uint32_t uid) const {
  const auto found = std::ranges::find(users, uid, &User::uid);
  return found == users.end() ? nullptr : &*found;
}

const Group* Accounts::FindGroup(std::string_view name) const {
  const auto found = std::ranges::find(groups, name, &Group::name);
  return found == groups.end() ? nullptr : &*found;
}

}  // namespace bootstream
