#include "blockmap/nbd/nbd_session.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <functional>
#include <map>
#include <thread>

#include "blockmap/nbd/big_endian.h"
#include "blockmap/nbd/nbd_protocol.h"
#include "tests/support/memory_service.h"

namespace bootstream {
namespace {

using Bytes = std::vector<std::byte>;
using Call = MemoryService::Call;
constexpr uint64_t kSize = 4 << 20;

// The other end of a session's socket; blocking.
class Client {
 public:
  explicit Client(UniqueFd fd) : fd_(std::move(fd)) {}

  bool Send(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n =
          ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return true;
  }
  // Up to `size` bytes; fewer when the session closed.
  Bytes Receive(size_t size) {
    Bytes out(size);
    if (size == 0) return out;  // recv would wait for a byte all the same
    const ssize_t n = ::recv(fd_.get(), out.data(), size, MSG_WAITALL);
    out.resize(n < 0 ? 0 : static_cast<size_t>(n));
    return out;
  }
  bool Request(NbdCommand command, uint64_t cookie, uint64_t offset,
               uint32_t length, uint16_t flags = 0) {
    Bytes out;
    AppendBe(out, kNbdRequestMagic);
    AppendBe(out, flags);
    AppendBe(out, static_cast<uint16_t>(command));
    AppendBe(out, cookie);
    AppendBe(out, offset);
    AppendBe(out, length);
    return Send(out);
  }
  struct Answer {
    uint32_t error = 0xffffffff;  // this: the session closed
    uint64_t cookie = 0;
  };
  Answer Reply() {
    const Bytes bytes = Receive(kNbdReplyBytes);
    if (bytes.size() != kNbdReplyBytes ||
        LoadBe<uint32_t>(bytes) != kNbdReplyMagic) {
      return {};
    }
    return {LoadBe<uint32_t>(std::span(bytes).subspan(4)),
            LoadBe<uint64_t>(std::span(bytes).subspan(8))};
  }
  bool Closed() { return Receive(1).empty(); }
  void Close() { fd_.reset(); }

  void SendOption(uint32_t option, const Bytes& data = {}) {
    Bytes out;
    AppendBe(out, kNbdOptionMagic);
    AppendBe(out, option);
    AppendBe(out, static_cast<uint32_t>(data.size()));
    out.insert(out.end(), data.begin(), data.end());
    Send(out);
  }
  // The reply to an option and its data.
  std::pair<uint32_t, Bytes> OptionReply() {
    const Bytes head = Receive(20);
    if (head.size() != 20 || LoadBe<uint64_t>(head) != kNbdOptionReplyMagic) {
      return {0, {}};
    }
    return {LoadBe<uint32_t>(std::span(head).subspan(12)),
            Receive(LoadBe<uint32_t>(std::span(head).subspan(16)))};
  }
  void Greet(uint32_t flags = 3) {
    ASSERT_EQ(Receive(18), EncodeNbdGreeting());
    Bytes out;
    AppendBe(out, flags);
    Send(out);
  }

 private:
  UniqueFd fd_;
};

class NbdSessionTest : public testing::Test {
 protected:
  NbdSessionTest() : loop_(std::move(IoLoop::Create().value())) {
    service_.set_logging(true);
  }
  // Serve one client, who does `talk` on a thread of its own.
  Status Serve(NbdSession::Start start,
               const std::function<void(Client&)>& talk) {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    NbdSession session(*loop_, service_, options_, UniqueFd(pair[0]));
    session_ = &session;
    std::thread client([&talk, fd = pair[1]] {
      Client end{UniqueFd(fd)};
      talk(end);
    });
    Status status = loop_->RunUntilDone(session.Run(start));
    client.join();
    return status;
  }
  Status Transmit(const std::function<void(Client&)>& talk) {
    return Serve(NbdSession::Start::kTransmission, talk);
  }

  std::unique_ptr<IoLoop> loop_;
  MemoryService service_{kSize};
  NbdOptions options_;
  NbdSession* session_ = nullptr;
};

constexpr auto kOk = static_cast<uint32_t>(NbdError::kNone);
constexpr auto kEio = static_cast<uint32_t>(NbdError::kIo);
constexpr auto kEinval = static_cast<uint32_t>(NbdError::kInvalid);
constexpr auto kEnospc = static_cast<uint32_t>(NbdError::kNoSpace);

TEST_F(NbdSessionTest, WritesAndReadsBack) {
  const Status end = Transmit([](Client& client) {
    const Bytes data(100'001, std::byte{7});
    client.Request(NbdCommand::kWrite, 1, 12'345, 100'001, kNbdFlagFua);
    client.Send(data);
    EXPECT_EQ(client.Reply().error, kOk);
    client.Request(NbdCommand::kRead, 2, 12'345, 100'001);
    const auto reply = client.Reply();
    EXPECT_EQ(reply.error, kOk);
    EXPECT_EQ(reply.cookie, 2u);
    EXPECT_EQ(client.Receive(100'001), data);
    client.Request(NbdCommand::kDisconnect, 3, 0, 0);
    EXPECT_TRUE(client.Closed());
  });
  EXPECT_TRUE(end.has_value()) << end.error().message;
  EXPECT_TRUE(service_.last_write_aligned());
}

TEST_F(NbdSessionTest, ServiceSeesWritesAndFlushesInOrder) {
  const Status end = Transmit([](Client& client) {
    client.Request(NbdCommand::kWrite, 1, 0, 512);
    client.Send(Bytes(512));
    EXPECT_EQ(client.Reply().error, kOk);
    client.Request(NbdCommand::kFlush, 2, 0, 0);
    EXPECT_EQ(client.Reply().error, kOk);
    client.Request(NbdCommand::kWrite, 3, 512, 512, kNbdFlagFua);
    client.Send(Bytes(512));
    EXPECT_EQ(client.Reply().error, kOk);
    client.Request(NbdCommand::kWriteZeroes, 4, 0, 4096,
                   kNbdFlagFua | kNbdFlagNoHole);
    EXPECT_EQ(client.Reply().error, kOk);
    client.Request(NbdCommand::kTrim, 5, 4096, 4096, kNbdFlagFua);
    EXPECT_EQ(client.Reply().error, kOk);
  });
  EXPECT_TRUE(end.has_value()) << end.error().message;
  const std::vector<Call> expected = {
      {Call::Kind::kWrite, 0, 512, false},
      {Call::Kind::kFlush, 0, 0, false},
      {Call::Kind::kWrite, 512, 512, true},
      {Call::Kind::kWriteZeroes, 0, 4096, true},
      {Call::Kind::kDiscard, 4096, 4096, false},
      {Call::Kind::kFlush, 0, 0, false},
  };
  EXPECT_EQ(service_.calls(), expected);
}

TEST_F(NbdSessionTest, BadRequestMagicEndsTheConnection) {
  const Status end = Transmit([](Client& client) {
    client.Send(Bytes(kNbdRequestBytes, std::byte{0x55}));
    EXPECT_TRUE(client.Closed());
  });
  ASSERT_FALSE(end.has_value());
  EXPECT_EQ(end.error().code, ErrorCode::kInvalid);
  EXPECT_TRUE(service_.calls().empty());
}

TEST_F(NbdSessionTest, RangeOutsideIsRefusedAndTheConnectionGoesOn) {
  const Status end = Transmit([](Client& client) {
    client.Request(NbdCommand::kRead, 1, kSize - 1, 2);
    EXPECT_EQ(client.Reply().error, kEinval);
    client.Request(NbdCommand::kWrite, 2, ~uint64_t{0} - 5, 300'000);
    client.Send(Bytes(300'000));
    EXPECT_EQ(client.Reply().error, kEnospc);
    client.Request(static_cast<NbdCommand>(99), 3, 0, 0);
    EXPECT_EQ(client.Reply().error, kEinval);
    client.Request(NbdCommand::kRead, 4, kSize - 1, 1);
    const auto reply = client.Reply();
    EXPECT_EQ(reply.error, kOk);
    EXPECT_EQ(reply.cookie, 4u);
    EXPECT_EQ(client.Receive(1).size(), 1u);
  });
  EXPECT_TRUE(end.has_value()) << end.error().message;
  EXPECT_EQ(service_.calls().size(), 1u);
}

TEST_F(NbdSessionTest, WriteAboveTheLimitEndsTheConnection) {
  const Status end = Transmit([](Client& client) {
    client.Request(NbdCommand::kWrite, 1, 0, kNbdPayloadBytesMax + 1);
    EXPECT_TRUE(client.Closed());
  });
  ASSERT_FALSE(end.has_value());
  EXPECT_EQ(end.error().code, ErrorCode::kInvalid);
}

TEST_F(NbdSessionTest, DisconnectInTheMiddleOfAWriteWritesNothing) {
  for (const size_t sent : {size_t{0}, size_t{1}, size_t{99'999}}) {
    const Status end = Transmit([sent](Client& client) {
      client.Request(NbdCommand::kWrite, 1, 0, 100'000);
      client.Send(Bytes(sent, std::byte{1}));
      client.Close();
    });
    ASSERT_FALSE(end.has_value()) << sent;
    EXPECT_EQ(end.error().code, ErrorCode::kIo);
  }
  EXPECT_TRUE(service_.calls().empty());
}

TEST_F(NbdSessionTest, DisconnectInTheMiddleOfAHeaderIsAnError) {
  for (size_t sent = 1; sent < kNbdRequestBytes; ++sent) {
    const Status end = Transmit([sent](Client& client) {
      client.Send(Bytes(sent));
      client.Close();
    });
    EXPECT_FALSE(end.has_value()) << sent;
  }
}

TEST_F(NbdSessionTest, ErrorsOfTheServiceReachTheClient) {
  for (const auto& [code, wire] :
       std::map<ErrorCode, uint32_t>{{ErrorCode::kIo, kEio},
                                     {ErrorCode::kCorrupt, kEio},
                                     {ErrorCode::kNoSpace, kEnospc}}) {
    service_.FailWith(code);
    const Status end = Transmit([wire = wire](Client& client) {
      client.Request(NbdCommand::kRead, 1, 0, 4096);
      EXPECT_EQ(client.Reply().error, wire);
      client.Request(NbdCommand::kFlush, 2, 0, 0);
      // No payload lay between: this is the next reply.
      EXPECT_EQ(client.Reply().cookie, 2u);
    });
    EXPECT_TRUE(end.has_value()) << end.error().message;
  }
}

TEST_F(NbdSessionTest, WriteIsAnsweredWhileReadsAreHeld) {
  Event gate;
  service_.HoldReads(&gate);
  const Status end = Transmit([&](Client& client) {
    for (uint64_t i = 0; i < 20; ++i) {
      client.Request(NbdCommand::kRead, i, i * 4096, 4096);
    }
    client.Request(NbdCommand::kWrite, 100, 0, 1);
    client.Send(Bytes(1));
    EXPECT_EQ(client.Reply().cookie, 100u);
    loop_->Post([&gate] { gate.Set(); });
    for (uint64_t i = 0; i < 20; ++i) {
      EXPECT_EQ(client.Reply().error, kOk);
      EXPECT_EQ(client.Receive(4096).size(), 4096u);
    }
  });
  EXPECT_TRUE(end.has_value()) << end.error().message;
}

TEST_F(NbdSessionTest, RequestsBeyondTheBoundWaitForTheirTurn) {
  Event gate;
  service_.HoldReads(&gate);
  constexpr uint64_t kMany = 3 * NbdSession::kRequestsMax;
  size_t begun_while_held = 0;
  const Status end = Transmit([&](Client& client) {
    for (uint64_t i = 0; i < kMany; ++i) {
      client.Request(NbdCommand::kRead, i, 0, 512);
    }
    // The loop has seen all of it when the bound is reached.
    std::function<void()> look = [&] {
      begun_while_held = service_.calls().size();
      if (begun_while_held < NbdSession::kRequestsMax) {
        loop_->PostAfter(std::chrono::milliseconds(1), look);
      } else {
        gate.Set();
      }
    };
    loop_->Post(look);
    for (uint64_t i = 0; i < kMany; ++i) {
      EXPECT_EQ(client.Reply().error, kOk);
      EXPECT_EQ(client.Receive(512).size(), 512u);
    }
  });
  EXPECT_TRUE(end.has_value()) << end.error().message;
  EXPECT_EQ(begun_while_held, NbdSession::kRequestsMax);
  EXPECT_EQ(service_.calls().size(), kMany);
}

TEST_F(NbdSessionTest, StopAnswersWhatIsInHand) {
  Event gate;
  service_.HoldReads(&gate);
  const Status end = Transmit([&](Client& client) {
    client.Request(NbdCommand::kRead, 1, 0, 4096);
    client.Request(NbdCommand::kFlush, 2, 0, 0);
    EXPECT_EQ(client.Reply().cookie, 2u);  // so the read is in hand
    loop_->Post([&] {
      session_->Stop();
      gate.Set();
    });
    EXPECT_EQ(client.Reply().cookie, 1u);
    EXPECT_EQ(client.Receive(4096).size(), 4096u);
    EXPECT_TRUE(client.Closed());
  });
  EXPECT_TRUE(end.has_value()) << end.error().message;
}

TEST_F(NbdSessionTest, ClientThatVanishesWithReadsInHandIsBuried) {
  Event gate;
  service_.HoldReads(&gate);
  const Status end = Transmit([&](Client& client) {
    for (uint64_t i = 0; i < 50; ++i) {
      client.Request(NbdCommand::kRead, i, 0, 1 << 20);
    }
    client.Request(NbdCommand::kFlush, 99, 0, 0);
    EXPECT_EQ(client.Reply().cookie, 99u);
    client.Close();
    loop_->Post([&gate] { gate.Set(); });
  });
  EXPECT_EQ(service_.calls().size(), 51u);
}

TEST_F(NbdSessionTest, GoTellsSizeFlagsAndBlockSizes) {
  options_.export_name = "disk";
  const Status end = Serve(NbdSession::Start::kHandshake, [](Client& client) {
    client.Greet();
    client.SendOption(5);  // STARTTLS
    EXPECT_EQ(client.OptionReply().first,
              static_cast<uint32_t>(NbdOptionReply::kErrUnsupported));
    client.SendOption(8);  // STRUCTURED_REPLY
    EXPECT_EQ(client.OptionReply().first,
              static_cast<uint32_t>(NbdOptionReply::kErrUnsupported));
    client.SendOption(3);  // LIST
    const auto [kind, listed] = client.OptionReply();
    EXPECT_EQ(kind, static_cast<uint32_t>(NbdOptionReply::kServer));
    EXPECT_EQ(listed, EncodeNbdServer("disk"));
    EXPECT_EQ(client.OptionReply().first, 1u);
    Bytes nobody;
    AppendBe<uint32_t>(nobody, 1);
    nobody.push_back(std::byte{'x'});
    AppendBe<uint16_t>(nobody, 0);
    client.SendOption(7, nobody);
    EXPECT_EQ(client.OptionReply().first,
              static_cast<uint32_t>(NbdOptionReply::kErrUnknown));
    client.SendOption(7, Bytes(5));
    EXPECT_EQ(client.OptionReply().first,
              static_cast<uint32_t>(NbdOptionReply::kErrInvalid));
    client.SendOption(7, Bytes(6));
    EXPECT_EQ(client.OptionReply().second,
              EncodeNbdInfoExport(kSize, NbdTransmissionFlags(false)));
    EXPECT_EQ(client.OptionReply().second, EncodeNbdInfoBlockSize());
    EXPECT_EQ(client.OptionReply().first, 1u);
    client.Request(NbdCommand::kRead, 1, 0, 512);
    EXPECT_EQ(client.Reply().error, kOk);
    EXPECT_EQ(client.Receive(512).size(), 512u);
  });
  EXPECT_TRUE(end.has_value()) << end.error().message;
}

TEST_F(NbdSessionTest, ExportNameAnswersOldClients) {
  for (const uint32_t flags : {1u, 3u}) {
    const Status end =
        Serve(NbdSession::Start::kHandshake, [flags](Client& client) {
          client.Greet(flags);
          client.SendOption(1);
          const bool zeroes = flags == 1;
          EXPECT_EQ(
              client.Receive(zeroes ? 134 : 10),
              EncodeNbdExportName(kSize, NbdTransmissionFlags(false), zeroes));
          client.Request(NbdCommand::kFlush, 1, 0, 0);
          EXPECT_EQ(client.Reply().error, kOk);
        });
    EXPECT_TRUE(end.has_value()) << end.error().message;
  }
}

TEST_F(NbdSessionTest, AbortIsAcknowledgedAndBadHandshakesEnd) {
  EXPECT_TRUE(Serve(NbdSession::Start::kHandshake, [](Client& client) {
    client.Greet();
    client.SendOption(2);
    EXPECT_EQ(client.OptionReply().first, 1u);
    EXPECT_TRUE(client.Closed());
  }));
  EXPECT_FALSE(Serve(NbdSession::Start::kHandshake, [](Client& client) {
    client.Greet(1 << 7);
    EXPECT_TRUE(client.Closed());
  }));
  EXPECT_FALSE(Serve(NbdSession::Start::kHandshake, [](Client& client) {
    client.Greet();
    client.Send(Bytes(16));
    EXPECT_TRUE(client.Closed());
  }));
  EXPECT_FALSE(Serve(NbdSession::Start::kHandshake, [](Client& client) {
    client.Greet();
    for (int i = 0; i < 300; ++i) client.SendOption(1000);
    while (!client.Receive(20).empty()) {
    }
  }));
  EXPECT_TRUE(service_.calls().empty());
}

TEST_F(NbdSessionTest, ReadsAreObserved) {
  std::vector<std::pair<uint64_t, uint32_t>> seen;
  options_.on_read = [&](uint64_t offset, uint32_t size, Executor::Duration) {
    seen.emplace_back(offset, size);
  };
  EXPECT_TRUE(Transmit([](Client& client) {
    client.Request(NbdCommand::kRead, 1, 8192, 512);
    client.Request(NbdCommand::kFlush, 2, 0, 0);
    client.Request(NbdCommand::kRead, 3, kSize, 512);
    client.Receive(16 + 512 + 16 + 16);
  }));
  EXPECT_EQ(seen, (decltype(seen){{8192, 512}}));
}

}  // namespace
}  // namespace bootstream
