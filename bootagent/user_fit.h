#ifndef BOOTAGENT_USER_FIT_H_
#define BOOTAGENT_USER_FIT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/disk/partition_table.h"
#include "blockmap/image/chunk_source.h"
#include "blockmap/image/manifest.h"

// Whether what people have in the old system fits into the new one: before
// commit, after it, or never.

namespace bootstream {

struct UserSpace {
  std::optional<uint64_t> user_bytes;  // what import copies by default
  std::optional<uint64_t> image_free_bytes;
  // Why one of them is not known, as a sentence; else empty.
  std::string unknown;
};

enum class UserFit : uint8_t { kUnknown, kBeforeCommit, kAfterCommit, kNever };
std::string_view UserFitName(UserFit fit);

struct UserFitting {
  UserSpace space;
  UserFit fit = UserFit::kUnknown;
  std::string sentence;
};

// `room_bytes`: what may be written to the image before commit and be certain
// of a place; nullopt: all of it (a guaranteed plan).  Pure.
UserFitting JudgeUserSpace(UserSpace space, std::optional<uint64_t> room_bytes);

// What the image's largest ext file system that is not pinned has free for
// users, by its superblock, which is fetched.  nullopt: there is none.
Task<Result<std::optional<uint64_t>>> ReadImageFreeBytes(
    const Manifest& manifest, const PartitionTable& table, ChunkSource& source);

}  // namespace bootstream

#endif  // BOOTAGENT_USER_FIT_H_
