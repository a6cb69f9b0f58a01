#ifndef INITRAMFS_DRIVER_KEPT_BACKFILL_H_
#define INITRAMFS_DRIVER_KEPT_BACKFILL_H_

#include <string>
#include <string_view>

#include "initramfs/driver/backfill.h"

// What a person has told the backfill, as the text that one worker leaves with
// the keeper for the next, which may be of another version: a JSON object with
// `paused` (true or false) and `limit` (bytes a second, 0: none).

namespace bootstream {

std::string BackfillToKeep(const Backfill& backfill);
// `options` with what `text` says; what makes no sense there says nothing.
Backfill::Options WithKeptBackfill(Backfill::Options options,
                                   std::string_view text);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_KEPT_BACKFILL_H_
