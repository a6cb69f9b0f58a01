#include "initramfs/closure/grub_reader.h"

namespace bootstream {
namespace {

constexpr char kProgram[] = "grub-fstest";

}  // namespace

Status GrubReader::IsInstalled() {
  const auto run = RunForOutput({kProgram, "--version"});
  if (run && run->exit_code == 0) return OkStatus();
  return Error{ErrorCode::kNotFound,
               "grub-fstest, which reads as GRUB does, is not there; install "
               "the package grub-common"};
}

std::string GrubReader::NameOf(const BootTree& tree) const {
  return "(loop0," + std::to_string(tree.partition) + ")" + tree.inside;
}

Status GrubReader::Compare(const BootTree& tree) const {
  // It goes through what is there locally, directories and all.
  const auto run =
      RunForOutput({kProgram, device_, "cmp", NameOf(tree), tree.local},
                   deadline_);
  if (!run) return run.error();
  if (run->exit_code == 0) return OkStatus();
  return Error{ErrorCode::kCorrupt, "GRUB would not find " + tree.name +
                                        " as it is: " + run->last_line()};
}

}  // namespace bootstream
