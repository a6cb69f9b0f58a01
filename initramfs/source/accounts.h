#ifndef INITRAMFS_SOURCE_ACCOUNTS_H_
#define INITRAMFS_SOURCE_ACCOUNTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bootstream {

struct User {
  std::string name;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string home;
};

struct Group {
  std::string name;
  uint32_t gid = 0;
};

// Users and groups as the files of a system tell (passwd(5), group(5)); none
// where there are no such files.  Lines that make no sense are passed over.
struct Accounts {
  std::vector<User> users;
  std::vector<Group> groups;

  static Accounts Of(const std::string& root);
  const User* FindUser(std::string_view name) const;
  const User* FindUser(uint32_t uid) const;
  const Group* FindGroup(std::string_view name) const;
};

// A number as passwd(5) has it: digits, 32 bits.
std::optional<uint32_t> ParseId(std::string_view text);

}  // namespace bootstream

#endif  // INITRAMFS_SOURCE_ACCOUNTS_H_
