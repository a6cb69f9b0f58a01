#include "blockmap/nbd/nbd_handshake.h"

#include <utility>

#include "blockmap/nbd/nbd_protocol.h"

namespace bootstream {
namespace {

// More than any client has reason to send.
constexpr int kOptionsMax = 256;

class Negotiation {
 public:
  Negotiation(IoLoop& loop, int fd, StreamReader& reader,
              const NbdExport& offered)
      : loop_(loop), fd_(fd), reader_(reader), offered_(offered) {}

  Task<Result<bool>> Run() {
    if (auto s = co_await Greet(); !s) co_return s.error();
    for (int i = 0; i < kOptionsMax; ++i) {
      auto outcome = co_await OneOption();
      if (!outcome) co_return std::move(outcome.error());
      if (*outcome == Outcome::kChosen) co_return true;
      if (*outcome == Outcome::kLeft) co_return false;
    }
    co_return Error{ErrorCode::kInvalid, "nbd: too many options"};
  }

 private:
  enum class Outcome { kGoOn, kChosen, kLeft };

  Task<Status> Greet() {
    const auto greeting = EncodeNbdGreeting();
    if (auto s = co_await loop_.SendAll(fd_, greeting); !s) co_return s;
    if (auto s = co_await reader_.Fill(4); !s) co_return s;
    const uint32_t flags = DecodeNbdClientFlags(reader_.Consume(4).first<4>());
    if (flags & ~uint32_t{kNbdFixedNewstyle | kNbdNoZeroes}) {
      co_return Error{ErrorCode::kInvalid, "nbd: unknown client flags"};
    }
    zeroes_ = (flags & kNbdNoZeroes) == 0;
    co_return OkStatus();
  }

  Task<Result<Outcome>> OneOption() {
    if (auto s = co_await reader_.Fill(16); !s) co_return s.error();
    const auto header = DecodeNbdOptionHeader(reader_.Consume(16).first<16>());
    if (!header) co_return header.error();
    if (auto s = co_await reader_.Fill(header->length); !s) {
      co_return s.error();
    }
    const auto data = reader_.Consume(header->length);
    out_.clear();
    const auto outcome = Answer(header->option, data);
    if (!outcome) co_return outcome.error();
    Status sent = co_await loop_.SendAll(fd_, out_);
    // Who leaves need not listen to the farewell.
    if (!sent && *outcome != Outcome::kLeft) co_return sent.error();
    co_return *outcome;
  }

  // What to do about one option; the bytes to send gather in `out_`.
  Result<Outcome> Answer(uint32_t option, std::span<const std::byte> data) {
    switch (static_cast<NbdOption>(option)) {
      case NbdOption::kExportName:
        return ExportName(data);
      case NbdOption::kAbort:
        Reply(option, NbdOptionReply::kAck);
        return Outcome::kLeft;
      case NbdOption::kList:
        List(option, data);
        return Outcome::kGoOn;
      case NbdOption::kInfo:
      case NbdOption::kGo:
        return InfoOrGo(option, data);
      default:
        Reply(option, NbdOptionReply::kErrUnsupported);
        return Outcome::kGoOn;
    }
  }

  Result<Outcome> ExportName(std::span<const std::byte> data) {
    const std::string name(reinterpret_cast<const char*>(data.data()),
                           data.size());
    // This option has no way to say no but to hang up.
    if (!Known(name)) {
      return Error{ErrorCode::kInvalid, "nbd: no export '" + name + "'"};
    }
    out_ = EncodeNbdExportName(offered_.size_bytes, offered_.flags, zeroes_);
    return Outcome::kChosen;
  }

  void List(uint32_t option, std::span<const std::byte> data) {
    if (!data.empty()) return Reply(option, NbdOptionReply::kErrInvalid);
    Reply(option, NbdOptionReply::kServer, EncodeNbdServer(offered_.name));
    Reply(option, NbdOptionReply::kAck);
  }

  Outcome InfoOrGo(uint32_t option, std::span<const std::byte> data) {
    const auto request = DecodeNbdInfoRequest(data);
    if (!request) {
      Reply(option, NbdOptionReply::kErrInvalid);
      return Outcome::kGoOn;
    }
    if (!Known(request->export_name)) {
      Reply(option, NbdOptionReply::kErrUnknown);
      return Outcome::kGoOn;
    }
    Reply(option, NbdOptionReply::kInfo,
          EncodeNbdInfoExport(offered_.size_bytes, offered_.flags));
    Reply(option, NbdOptionReply::kInfo, EncodeNbdInfoBlockSize());
    Reply(option, NbdOptionReply::kAck);
    return static_cast<NbdOption>(option) == NbdOption::kGo ? Outcome::kChosen
                                                            : Outcome::kGoOn;
  }

  bool Known(const std::string& name) const {
    return name.empty() || name == offered_.name;
  }

  void Reply(uint32_t option, NbdOptionReply reply,
             std::span<const std::byte> data = {}) {
    const auto bytes = EncodeNbdOptionReply(option, reply, data);
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }

  IoLoop& loop_;
  int fd_;  // not owned
  StreamReader& reader_;
  const NbdExport& offered_;
  bool zeroes_ = true;
  std::vector<std::byte> out_;
};

}  // namespace

Task<Result<bool>> NegotiateNbd(IoLoop& loop, int fd, StreamReader& reader,
                                const NbdExport& offered) {
  Negotiation negotiation(loop, fd, reader, offered);
  co_return co_await negotiation.Run();
}

}  // namespace bootstream
