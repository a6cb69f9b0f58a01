#ifndef INITRAMFS_KEEPER_FD_STORE_H_
#define INITRAMFS_KEEPER_FD_STORE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// What one message to the keeper says.
enum class KeeperWord : uint8_t {
  kKeep = 1,  // a descriptor, and its name as text
  kReady,     // serving; text for the one who started us
  kFailed,    // will end without having served; number: exit code
  kRefused,   // was told to end, and goes on
  kForget,    // everything whose name begins with the text
};
inline constexpr size_t kKeeperTextMax = 1024;

// The worker's side of the keeper (keeper.md): descriptors that outlive the
// worker, by name.  Without a keeper nothing is found and nothing is kept, and
// everything else is the same.  One thread.
class FdStore {
 public:
  // No keeper.
  FdStore() = default;
  // `channel`: to the keeper; `inherited`: what earlier workers kept.
  FdStore(UniqueFd channel, std::map<std::string, UniqueFd> inherited,
          unsigned restarts)
      : channel_(std::move(channel)),
        inherited_(std::move(inherited)),
        restarts_(restarts) {}

  bool has_keeper() const { return static_cast<bool>(channel_); }
  // How many workers there were before this one.
  unsigned restarts() const { return restarts_; }

  // What was kept under `name` before this worker began; once.  Empty: nothing.
  UniqueFd Take(std::string_view name);
  // From now on the keeper has a duplicate of `fd`, instead of what it had
  // under that name.  `name` is 1 to 31 bytes.
  Status Keep(std::string_view name, int fd);

  // The same for a few bytes.
  std::optional<std::vector<std::byte>> TakeBytes(std::string_view name);
  Status KeepBytes(std::string_view name, std::span<const std::byte> bytes);
  std::optional<std::string> TakeText(std::string_view name);
  Status KeepText(std::string_view name, std::string_view text);
  // And for a number.
  std::optional<uint32_t> TakeNumber(std::string_view name);
  Status KeepNumber(std::string_view name, uint32_t number);

  // The same keeper for another user of the same names: at the keeper his
  // begin with `prefix`, and what was kept so before is his from now on.
  Result<FdStore> Branch(const std::string& prefix);
  // What this branch, or an earlier worker's, has kept is kept no more.
  Status ForgetAll();

  // Tell the keeper; nothing without one.
  void Say(KeeperWord word, std::string_view text, int number = 0);

 private:
  UniqueFd channel_;
  std::map<std::string, UniqueFd> inherited_;
  unsigned restarts_ = 0;
  std::string prefix_;  // of a branch
};

// One message on the channel between the two, in the order of its bytes.
struct KeeperMessage {
  KeeperWord word = KeeperWord::kKeep;
  int number = 0;
  std::string text;
  UniqueFd fd;
};
Status SendToKeeper(int channel, KeeperWord word, std::string_view text,
                    int number, int fd);
// nullopt: there is none now.  Never blocks.
std::optional<KeeperMessage> ReceiveFromWorker(int channel);

}  // namespace bootstream

#endif  // INITRAMFS_KEEPER_FD_STORE_H_
