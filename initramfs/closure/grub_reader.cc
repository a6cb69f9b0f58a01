#include "initramfs/closure/grub_reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <vector>

namespace bootstream {
namespace {

namespace fs = std::filesystem;

constexpr char kProgram[] = "grub-fstest";

std::vector<std::string> SortedWords(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  std::ranges::sort(words);
  return words;
}

// What `ls` of GRUB says of it: directories have a slash behind their names.
Result<std::string> NamesIn(const std::string& directory) {
  std::string names;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    const fs::path name = at->path().filename();
    names += name.string() + (at->is_directory(error) ? "/ " : " ");
  }
  if (error) return Error{ErrorCode::kIo, directory + ": " + error.message()};
  return names;
}

bool IsMountPoint(const fs::path& directory) {
  struct stat above {};
  struct stat here {};
  return ::stat((directory / "..").c_str(), &above) == 0 &&
         ::stat(directory.c_str(), &here) == 0 && above.st_dev != here.st_dev;
}

}  // namespace

Status GrubReader::IsInstalled() {
  const auto run = RunForOutput({kProgram, "--version"});
  if (run && run->exit_code == 0) return OkStatus();
  return Error{ErrorCode::kNotFound,
               "grub-fstest, which reads as GRUB does, is not there; install "
               "the package grub-common"};
}

Result<ProgramOutput> GrubReader::Run(const std::string& verb,
                                      const std::string& name,
                                      const std::string& local) const {
  std::vector<std::string> words = {kProgram, device_, verb, name};
  if (!local.empty()) words.push_back(local);
  return RunForOutput(words, deadline_);
}

std::string GrubReader::NameOf(const BootTree& tree) const {
  return "(loop0," + std::to_string(tree.partition) + ")" + tree.inside;
}

Status GrubReader::Compare(const BootTree& tree) const {
  if (tree.is_directory) {
    if (auto s = CompareNames(tree); !s) return s;
  }
  const auto run = Run("cmp", NameOf(tree), tree.local);
  if (!run) return run.error();
  if (run->exit_code == 0) return OkStatus();
  return Error{ErrorCode::kCorrupt, "GRUB would not find " + tree.local +
                                        " as it is: " + run->last_line()};
}

// `cmp` goes through what GRUB finds; what it does not find shows here.
Status GrubReader::CompareNames(const BootTree& tree) const {
  if (auto s = CompareDirectory(tree, tree.local); !s) return s;
  std::error_code error;
  fs::recursive_directory_iterator at(tree.local, error);
  for (const fs::recursive_directory_iterator end; !error && at != end;
       at.increment(error)) {
    if (at->is_symlink(error) || !at->is_directory(error)) continue;
    if (IsMountPoint(at->path())) {
      at.disable_recursion_pending();
      continue;
    }
    if (auto s = CompareDirectory(tree, at->path().string()); !s) return s;
  }
  if (error) return Error{ErrorCode::kIo, tree.local + ": " + error.message()};
  return OkStatus();
}

Status GrubReader::CompareDirectory(const BootTree& tree,
                                    const std::string& local) const {
  const std::string name =
      NameOf(tree) + local.substr(tree.local.size()) + "/";
  const auto run = Run("ls", name, "");
  if (!run) return run.error();
  const auto names = NamesIn(local);
  if (!names) return names.error();
  if (run->exit_code == 0 && SortedWords(run->output) == SortedWords(*names)) {
    return OkStatus();
  }
  return Error{ErrorCode::kCorrupt,
               "GRUB would not find all that is in " + local +
                   (run->exit_code == 0 ? "" : ": " + run->last_line())};
}

}  // namespace bootstream
