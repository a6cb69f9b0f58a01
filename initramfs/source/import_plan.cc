#include "initramfs/source/import_plan.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string_view>
#include <system_error>

#include "initramfs/source/accounts.h"
#include "initramfs/source/in_root.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

// Profiles of Windows that are nobody's.
constexpr std::array<std::string_view, 6> kNobodysProfiles = {
    "Public",    "Default",      "Default User",
    "All Users", "defaultuser0", "WDAGUtilityAccount"};

// Of a Windows profile: its registry, what is made anew, and the links that
// old programs follow.
constexpr std::array<std::string_view, 14> kLeftOut = {
    "/NTUSER.DAT*", "/ntuser.*",       "/AppData/Local", "/Application Data",
    "/Cookies",     "/Local Settings", "/My Documents",  "/NetHood",
    "/PrintHood",   "/Recent",         "/SendTo",        "/Start Menu",
    "/Templates",   "/Documents/My *"};

std::string Lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  return text;
}

bool IsDirectory(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// Names of the directories in `path`, links left out, sorted.
std::vector<std::string> Directories(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename();
    std::error_code ignored;
    if (at->is_symlink(ignored) || !at->is_directory(ignored)) continue;
    if (name.starts_with('.') || name == "lost+found") continue;
    names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

// "/a//b/" -> {"a", "b"}; kInvalid if it leads up.
Result<std::vector<std::string>> Words(const std::string& path) {
  std::vector<std::string> words;
  for (const fs::path& part : fs::path(path).relative_path()) {
    const std::string word = part;
    if (word == "..") {
      return Error{ErrorCode::kInvalid, path + " leads up: say it without .."};
    }
    if (!word.empty() && word != ".") words.push_back(word);
  }
  if (words.empty()) {
    return Error{ErrorCode::kInvalid, "'" + path + "' names no folder"};
  }
  return words;
}

std::string Join(const std::vector<std::string>& words, size_t first) {
  std::string path;
  for (size_t i = first; i < words.size(); ++i) {
    path += (path.empty() ? "" : "/") + words[i];
  }
  return path;
}

// Somebody's folder in the old system.
struct Home {
  std::string name;
  std::string path;  // ours
  bool windows = false;
};

// What is mounted of the old system.
struct OldSystem {
  std::vector<std::string> roots;
  std::string root;  // the one with /etc; empty: none
  Accounts accounts;
  std::vector<Home> homes;

  const Home* FindHome(const std::string& name, bool windows) const {
    const auto found = std::ranges::find_if(homes, [&](const Home& home) {
      return home.name == name && home.windows == windows;
    });
    return found == homes.end() ? nullptr : &*found;
  }
};

std::optional<std::string> FolderIn(const std::string& root,
                                    const std::string& path) {
  const auto found = ResolveInRoot(root, path);
  if (!found || !IsDirectory(*found)) return std::nullopt;
  return *found;
}

// `path` below `top` with its links followed, of which none leads out.
std::optional<std::string> PartOf(const std::string& top,
                                  const std::string& path) {
  const auto found = ResolveInRoot(top, path);
  if (!found || !found->starts_with(top + "/")) return std::nullopt;
  return found->substr(top.size() + 1);
}

bool IsSystem(const std::string& root) {
  return ResolveInRoot(root, "etc/passwd") || FolderIn(root, "Users") ||
         FolderIn(root, "home");
}

// A directory in which file systems are mounted stands for them.
std::vector<std::string> Expand(std::vector<std::string> roots) {
  for (std::string& root : roots) {
    std::error_code error;
    const fs::path path = fs::canonical(root, error);
    if (!error) root = path;
  }
  if (roots.size() != 1 || IsSystem(roots[0])) return roots;
  std::vector<std::string> inside;
  for (const std::string& name : Directories(roots[0])) {
    inside.push_back(fs::path(roots[0]) / name);
  }
  return inside;
}

void AddHomes(OldSystem& old, const std::string& path, bool windows) {
  for (const std::string& name : Directories(path)) {
    if (windows && std::ranges::count(kNobodysProfiles, name) > 0) continue;
    old.homes.push_back({name, fs::path(path) / name, windows});
  }
}

// Is it the file system of /home: are there folders that somebody calls home?
bool HoldsHomes(const OldSystem& old, const std::string& root) {
  return std::ranges::any_of(Directories(root), [&](const std::string& name) {
    return std::ranges::any_of(old.accounts.users, [&](const User& user) {
      return user.home == "/home/" + name;
    });
  });
}

OldSystem Look(const std::vector<std::string>& roots) {
  OldSystem old;
  old.roots = Expand(roots);
  for (const std::string& root : old.roots) {
    if (!old.root.empty() || !ResolveInRoot(root, "etc/passwd")) continue;
    old.root = root;
    old.accounts = Accounts::Of(root);
  }
  for (const std::string& root : old.roots) {
    if (const auto home = FolderIn(root, "home")) AddHomes(old, *home, false);
    if (const auto users = FolderIn(root, "Users")) AddHomes(old, *users, true);
  }
  for (const std::string& root : old.roots) {
    const bool system = root == old.root || IsSystem(root);
    if (!system && HoldsHomes(old, root)) AddHomes(old, root, false);
  }
  return old;
}

// One who was somebody there and is somebody here.
struct SameUser {
  std::string old_name;
  std::optional<User> old_user;
  User now;
};

Result<User> UserHere(const Accounts& accounts, const std::string& who) {
  if (const User* user = accounts.FindUser(who)) return *user;
  const auto uid = ParseId(who);
  if (!uid) {
    return Error{ErrorCode::kInvalid, "this system has no user '" + who + "'"};
  }
  if (const User* user = accounts.FindUser(*uid)) return *user;
  return User{who, *uid, *uid, ""};
}

Result<SameUser> ParseMapping(const std::string& text, const OldSystem& old,
                              const Accounts& here) {
  const size_t colon = text.find(':');
  if (colon == 0 || colon == std::string::npos || colon + 1 == text.size()) {
    return Error{ErrorCode::kInvalid,
                 "--map-owner " + text + ": write OLD:NEW, names or numbers"};
  }
  SameUser same;
  same.old_name = text.substr(0, colon);
  const auto now = UserHere(here, text.substr(colon + 1));
  if (!now) return now.error();
  same.now = *now;
  if (const User* user = old.accounts.FindUser(same.old_name)) {
    same.old_user = *user;
  } else if (const auto uid = ParseId(same.old_name)) {
    const User* known = old.accounts.FindUser(*uid);
    same.old_user = known != nullptr ? *known : User{"", *uid, *uid, ""};
    if (known != nullptr) same.old_name = known->name;
  } else if (!old.root.empty()) {
    return Error{ErrorCode::kInvalid,
                 "the old system has no user '" + same.old_name + "'"};
  }
  return same;
}

class Planner {
 public:
  explicit Planner(const ImportRequest& request)
      : request_(request),
        old_(Look(request.roots)),
        here_(Accounts::Of(request.new_root)) {}

  Result<std::vector<ImportFolder>> Plan() {
    if (auto s = MapOwners(); !s) return s.error();
    std::vector<ImportFolder> plan;
    if (request_.folders.empty()) {
      for (const Home& home : old_.homes) plan.push_back(WholeHome(home));
      if (plan.empty()) {
        return Error{ErrorCode::kNotFound,
                     "the old system has no folders in /home or Users; name "
                     "one, and say --to"};
      }
      return plan;
    }
    for (const std::string& folder : request_.folders) {
      auto planned = Named(folder);
      if (!planned) return planned.error();
      plan.push_back(std::move(*planned));
    }
    return plan;
  }

 private:
  Status MapOwners() {
    for (const std::string& text : request_.map_owner) {
      auto same = ParseMapping(text, old_, here_);
      if (!same) return same.error();
      same_users_.push_back(std::move(*same));
    }
    for (const User& user : old_.accounts.users) {
      const User* now = here_.FindUser(user.name);
      if (now != nullptr && FindSame(user.name) == nullptr) {
        same_users_.push_back({user.name, user, *now});
      }
    }
    for (const SameUser& same : same_users_) {
      if (same.old_user) MapIds(*same.old_user, same.now);
    }
    for (const Group& group : old_.accounts.groups) {
      const Group* now = here_.FindGroup(group.name);
      if (now != nullptr) AddId(groups_, group.gid, now->gid);
    }
    std::erase_if(users_, [](IdMap id) { return id.from == id.to; });
    std::erase_if(groups_, [](IdMap id) { return id.from == id.to; });
    return OkStatus();
  }

  // Also the group, if it is the user's own.
  void MapIds(const User& old_user, const User& now) {
    AddId(users_, old_user.uid, now.uid);
    const bool others =
        std::ranges::any_of(old_.accounts.groups, [&](const Group& group) {
          return group.gid == old_user.gid && group.name != old_user.name;
        });
    if (!others && !old_user.name.empty())
      AddId(groups_, old_user.gid, now.gid);
  }

  static void AddId(std::vector<IdMap>& ids, uint32_t from, uint32_t to) {
    if (std::ranges::count(ids, from, &IdMap::from) == 0) {
      ids.push_back({from, to});
    }
  }

  const SameUser* FindSame(const std::string& name) const {
    const auto found =
        std::ranges::find(same_users_, name, &SameUser::old_name);
    return found == same_users_.end() ? nullptr : &*found;
  }

  // Who the old system's user is here; null: nobody.
  const User* Now(const Home& home) const {
    if (const SameUser* same = FindSame(home.name)) return &same->now;
    return home.windows ? here_.FindUser(Lower(home.name)) : nullptr;
  }

  std::string HomeHere(const Home& home) const {
    const User* now = Now(home);
    if (now != nullptr && now->home.size() > 1 && now->home[0] == '/') {
      return now->home;
    }
    return "/home/" + (home.windows ? Lower(home.name) : home.name);
  }

  ImportFolder Owned(const Home& home) const {
    ImportFolder folder;
    const User* now = Now(home);
    folder.users = users_;
    folder.groups = groups_;
    if (home.windows) {
      folder.has_owner = true;
      folder.owner = now != nullptr ? now->uid : 0;
      folder.group = now != nullptr ? now->gid : 0;
    }
    if (now == nullptr) folder.notes.push_back(NobodyHere(home));
    return folder;
  }

  std::string NobodyHere(const Home& home) const {
    const std::string who = home.windows ? Lower(home.name) : home.name;
    const std::string next = "; make the user first, or say --map-owner";
    std::string text = "this system has no user '" + who + "': ";
    if (home.windows) return text + "the files will be root's" + next;
    const User* user = old_.accounts.FindUser(home.name);
    if (user == nullptr) return text + "the files keep their owners' numbers";
    text += "the files keep their owner's number " + std::to_string(user->uid);
    const User* other = here_.FindUser(user->uid);
    if (other != nullptr) text += ", who is '" + other->name + "' here";
    return text + next;
  }

  ImportFolder WholeHome(const Home& home) const {
    ImportFolder folder = Owned(home);
    folder.from = home.path;
    folder.to =
        request_.to.empty() ? HomeHere(home) : request_.to + "/" + home.name;
    return folder;
  }

  Result<ImportFolder> Named(const std::string& text) const {
    const auto words = Words(text);
    if (!words) return words.error();
    const bool windows = (*words)[0] == "Users";
    if (words->size() >= 2 && (windows || (*words)[0] == "home")) {
      const Home* home = old_.FindHome((*words)[1], windows);
      if (home != nullptr) return InHome(*home, *words, text);
    }
    return Elsewhere(*words, text);
  }

  Result<ImportFolder> InHome(const Home& home,
                              const std::vector<std::string>& words,
                              const std::string& text) const {
    if (words.size() == 2) return WholeHome(home);
    ImportFolder folder = Owned(home);
    folder.from = home.path;
    folder.to = HomeHere(home);
    const auto part = PartOf(home.path, Join(words, 2));
    if (!part) return NoSuch(text);
    folder.part = *part;
    if (!request_.to.empty()) PutBelowTo(folder);
    return folder;
  }

  Result<ImportFolder> Elsewhere(const std::vector<std::string>& words,
                                 const std::string& text) const {
    for (const std::string& root : old_.roots) {
      const auto part = PartOf(root, Join(words, 0));
      if (!part) continue;
      if (request_.to.empty()) {
        return Error{ErrorCode::kInvalid,
                     text + " is nobody's home: say where to, with --to"};
      }
      ImportFolder folder;
      folder.users = users_;
      folder.groups = groups_;
      folder.from = root;
      folder.part = *part;
      PutBelowTo(folder);
      return folder;
    }
    return NoSuch(text);
  }

  static Error NoSuch(const std::string& text) {
    return Error{ErrorCode::kNotFound, "the old system has no " + text};
  }

  // As the last part of its path alone.
  void PutBelowTo(ImportFolder& folder) const {
    const fs::path path = fs::path(folder.from) / folder.part;
    folder.from = path.parent_path();
    folder.part = path.filename();
    folder.to = request_.to;
  }

  const ImportRequest& request_;
  const OldSystem old_;
  const Accounts here_;
  std::vector<SameUser> same_users_;
  std::vector<IdMap> users_;
  std::vector<IdMap> groups_;
};

std::string IdOption(const char* name, const std::vector<IdMap>& ids) {
  std::string text = name;
  const char* separator = "=";
  for (const IdMap& id : ids) {
    text += separator + std::to_string(id.from) + ":" + std::to_string(id.to);
    separator = ",";
  }
  return text;
}

}  // namespace

Result<std::vector<ImportFolder>> PlanImport(const ImportRequest& request) {
  return Planner(request).Plan();
}

std::vector<std::string> RsyncCommand(const ImportFolder& folder, bool dry_run,
                                      bool show_progress) {
  // What came only in part lies in a folder of its own: under its name it would
  // be taken for the file.
  std::vector<std::string> command = {"rsync",
                                      "-aHAX",
                                      "--no-D",
                                      "--numeric-ids",
                                      "--update",
                                      "--backup",
                                      "--suffix=.before-import",
                                      "--partial-dir=.bootstream-partial"};
  if (folder.has_owner) {
    command.push_back("--chown=" + std::to_string(folder.owner) + ":" +
                      std::to_string(folder.group));
    command.emplace_back("--chmod=D700,F600");
    for (const std::string_view pattern : kLeftOut) {
      command.push_back("--exclude=" + std::string(pattern));
    }
  } else {
    if (!folder.users.empty()) {
      command.push_back(IdOption("--usermap", folder.users));
    }
    if (!folder.groups.empty()) {
      command.push_back(IdOption("--groupmap", folder.groups));
    }
  }
  std::error_code ignored;
  if (!fs::exists(fs::path(folder.to).parent_path(), ignored)) {
    command.emplace_back("--mkpath");
  }
  if (dry_run) {
    command.insert(command.end(), {"--dry-run", "--stats"});
  } else if (show_progress) {
    command.emplace_back("--info=progress2");
  }
  if (!folder.part.empty()) command.emplace_back("--relative");
  command.emplace_back("--");
  command.push_back(folder.from + "/" +
                    (folder.part.empty() ? "" : "./" + folder.part));
  command.push_back(folder.to + "/");
  return command;
}

}  // namespace bootstream
