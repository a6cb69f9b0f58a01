#include "blockmap/disk/user_data.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <unordered_set>
#include <utility>
#include <vector>

#include "blockmap/disk/ext_filesystem.h"

namespace bootstream {
namespace {

constexpr uint64_t kPasswdBytesMax = uint64_t{1} << 20;
constexpr std::string_view kHome = "/home/";

// A name in a directory and where it leads.
struct Entry {
  std::string name;
  ext2_ino_t inode = 0;
};

// NOLINTNEXTLINE: libext2fs's signature
int AddEntry(ext2_ino_t, int, ext2_dir_entry* entry, int, int, char*,
             void* out) {
  const std::string name(entry->name,
                         static_cast<size_t>(ext2fs_dirent_name_len(entry)));
  if (entry->inode != 0 && name != "." && name != "..") {
    static_cast<std::vector<Entry>*>(out)->push_back({name, entry->inode});
  }
  return 0;
}

Result<std::vector<Entry>> ReadDirectory(ext2_filsys fs, ext2_ino_t inode) {
  std::vector<Entry> entries;
  const errcode_t code =
      ext2fs_dir_iterate2(fs, inode, 0, nullptr, AddEntry, &entries);
  if (code != 0) return ExtError(code, "read a directory");
  return entries;
}

Result<ext2_inode> ReadInode(ext2_filsys fs, ext2_ino_t number) {
  ext2_inode inode{};
  const errcode_t code = ext2fs_read_inode(fs, number, &inode);
  if (code != 0) return ExtError(code, "read an inode");
  return inode;
}

// The directories in one, links left out, as import takes them.
Result<std::vector<Entry>> Folders(ext2_filsys fs, ext2_ino_t directory) {
  auto entries = ReadDirectory(fs, directory);
  if (!entries) return entries;
  std::vector<Entry> folders;
  for (Entry& entry : *entries) {
    if (entry.name.starts_with('.') || entry.name == "lost+found") continue;
    const auto inode = ReadInode(fs, entry.inode);
    if (!inode) return inode.error();
    if (LINUX_S_ISDIR(inode->i_mode)) folders.push_back(std::move(entry));
  }
  return folders;
}

const Entry* Find(const std::vector<Entry>& entries, std::string_view name) {
  const auto found = std::ranges::find(entries, name, &Entry::name);
  return found == entries.end() ? nullptr : &*found;
}

Result<std::string> ReadFile(ext2_filsys fs, ext2_ino_t number) {
  ext2_file_t file = nullptr;
  errcode_t code = ext2fs_file_open(fs, number, 0, &file);
  if (code != 0) return ExtError(code, "open a file");
  const uint64_t size =
      std::min<uint64_t>(ext2fs_file_get_size(file), kPasswdBytesMax);
  std::string text(size, '\0');
  unsigned got = 0;
  code = ext2fs_file_read(file, text.data(), static_cast<unsigned>(size), &got);
  ext2fs_file_close(file);
  if (code != 0) return ExtError(code, "read a file");
  text.resize(got);
  return text;
}

// One file system, and what of it is somebody's.
class Filesystem {
 public:
  static Result<Filesystem> Open(const std::string& disk, ByteExtent where) {
    auto fs = OpenExt(disk, where);
    if (!fs) return fs.error();
    auto root = Folders(fs->get(), EXT2_ROOT_INO);
    if (!root) return root.error();
    return Filesystem(std::move(*fs), std::move(*root));
  }

  // Names below /home that its etc/passwd gives to users, if it has one.
  Status AddUsers(std::set<std::string>& users) const {
    const Entry* etc = Find(root_, "etc");
    if (etc == nullptr) return OkStatus();
    const auto entries = ReadDirectory(fs_.get(), etc->inode);
    if (!entries) return entries.error();
    const Entry* passwd = Find(*entries, "passwd");
    if (passwd == nullptr) return OkStatus();
    const auto text = ReadFile(fs_.get(), passwd->inode);
    if (!text) return text.error();
    std::istringstream lines(*text);
    for (std::string line; std::getline(lines, line);) {
      const size_t at = line.find(":/home/");
      if (at == std::string::npos) continue;
      const size_t begin = at + 1 + kHome.size();
      users.insert(line.substr(begin, line.find(':', begin) - begin));
    }
    return OkStatus();
  }

  Result<std::vector<Entry>> Homes(const std::set<std::string>& users) const {
    std::vector<Entry> homes;
    for (const char* name : {"home", "Users"}) {
      const Entry* top = Find(root_, name);
      if (top == nullptr) continue;
      auto folders = Folders(fs_.get(), top->inode);
      if (!folders) return folders;
      homes.insert(homes.end(), folders->begin(), folders->end());
    }
    const bool system = Find(root_, "etc") != nullptr || !homes.empty();
    if (system) return homes;
    const bool is_home = std::ranges::any_of(
        root_, [&](const Entry& entry) { return users.contains(entry.name); });
    return is_home ? root_ : homes;
  }

  Status Measure(const Entry& top, UserData& sum) {
    std::vector<ext2_ino_t> to_do{top.inode};
    while (!to_do.empty()) {
      const ext2_ino_t number = to_do.back();
      to_do.pop_back();
      const auto inode = ReadInode(fs_.get(), number);
      if (!inode) return inode.error();
      const bool directory = LINUX_S_ISDIR(inode->i_mode);
      const bool again = (directory || inode->i_links_count > 1) &&
                         !seen_.insert(number).second;
      if (again) continue;
      ++sum.files;
      // Devices, sockets and short links take nothing.
      const bool has_size = directory || LINUX_S_ISREG(inode->i_mode);
      const uint64_t size = has_size ? EXT2_I_SIZE(&*inode) : 0;
      sum.bytes += (size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
      if (!directory) continue;
      const auto entries = ReadDirectory(fs_.get(), number);
      if (!entries) return entries.error();
      for (const Entry& entry : *entries) to_do.push_back(entry.inode);
    }
    return OkStatus();
  }

 private:
  Filesystem(ExtHandle fs, std::vector<Entry> root)
      : fs_(std::move(fs)), root_(std::move(root)) {}

  ExtHandle fs_;
  std::vector<Entry> root_;
  std::unordered_set<ext2_ino_t> seen_;
};

}  // namespace

Result<UserData> MeasureUserData(const std::string& disk,
                                 std::span<const ByteExtent> partitions) {
  std::vector<Filesystem> all;
  std::set<std::string> users;
  for (const ByteExtent& partition : partitions) {
    auto opened = Filesystem::Open(disk, partition);
    if (!opened) return opened.error();
    if (auto s = opened->AddUsers(users); !s) return s.error();
    all.push_back(std::move(*opened));
  }
  UserData sum;
  for (Filesystem& filesystem : all) {
    const auto homes = filesystem.Homes(users);
    if (!homes) return homes.error();
    for (const Entry& home : *homes) {
      if (auto s = filesystem.Measure(home, sum); !s) return s.error();
    }
  }
  return sum;
}

}  // namespace bootstream
