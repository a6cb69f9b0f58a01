#include "blockmap/nbd/nbd_protocol.h"

#include <gtest/gtest.h>

#include "blockmap/nbd/big_endian.h"

namespace bootstream {
namespace {

constexpr uint64_t kSize = 1 << 20;

std::vector<std::byte> RequestBytes(uint16_t flags, uint16_t command,
                                    uint64_t offset, uint32_t length) {
  std::vector<std::byte> out;
  AppendBe(out, kNbdRequestMagic);
  AppendBe(out, flags);
  AppendBe(out, command);
  AppendBe<uint64_t>(out, 0x1122334455667788);
  AppendBe(out, offset);
  AppendBe(out, length);
  return out;
}

NbdError Check(NbdCommand command, uint64_t offset, uint32_t length,
               uint16_t flags = 0, bool read_only = false) {
  NbdRequest request;
  request.command = static_cast<uint16_t>(command);
  request.flags = flags;
  request.offset = offset;
  request.length = length;
  return CheckNbdRequest(request, kSize, read_only);
}

std::vector<std::byte> InfoRequestBytes(std::string_view name,
                                        const std::vector<uint16_t>& items) {
  std::vector<std::byte> out;
  AppendBe(out, static_cast<uint32_t>(name.size()));
  const auto bytes = std::as_bytes(std::span(name));
  out.insert(out.end(), bytes.begin(), bytes.end());
  AppendBe(out, static_cast<uint16_t>(items.size()));
  for (const uint16_t item : items) AppendBe(out, item);
  return out;
}

TEST(NbdProtocolTest, RequestFieldsAreWhereTheSpecificationPutsThem) {
  const auto bytes = RequestBytes(kNbdFlagFua, 1, 0x100000002, 0x30004);
  ASSERT_EQ(bytes.size(), kNbdRequestBytes);
  const auto request =
      DecodeNbdRequest(std::span(bytes).first<kNbdRequestBytes>());
  ASSERT_TRUE(request.has_value()) << request.error().message;
  EXPECT_TRUE(request->is(NbdCommand::kWrite));
  EXPECT_TRUE(request->fua());
  EXPECT_EQ(request->cookie, 0x1122334455667788u);
  EXPECT_EQ(request->offset, 0x100000002u);
  EXPECT_EQ(request->length, 0x30004u);
}

TEST(NbdProtocolTest, EveryWrongBitOfTheRequestMagicIsRefused) {
  for (size_t bit = 0; bit < 32; ++bit) {
    auto bytes = RequestBytes(0, 0, 0, 4096);
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    const auto request =
        DecodeNbdRequest(std::span(bytes).first<kNbdRequestBytes>());
    ASSERT_FALSE(request.has_value()) << bit;
    EXPECT_EQ(request.error().code, ErrorCode::kInvalid);
  }
}

TEST(NbdProtocolTest, InfoRequestSurvivesTheRoundTrip) {
  const auto bytes = InfoRequestBytes("disk", {3, 0, 999});
  const auto request = DecodeNbdInfoRequest(bytes);
  ASSERT_TRUE(request.has_value()) << request.error().message;
  EXPECT_EQ(request->export_name, "disk");
  EXPECT_EQ(request->items, (std::vector<uint16_t>{3, 0, 999}));
}

TEST(NbdProtocolTest, EveryTruncationOfAnInfoRequestIsRefused) {
  const auto whole = InfoRequestBytes("some disk", {0, 3});
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(DecodeNbdInfoRequest(std::span(whole).first(size))) << size;
  }
  auto longer = whole;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(DecodeNbdInfoRequest(longer)) << "a byte too many";
}

TEST(NbdProtocolTest, HugeNameLengthDoesNotWrap) {
  for (const uint32_t length : {0xffffffffu, 0xfffffffau, 0x80000000u, 7u}) {
    auto bytes = InfoRequestBytes("disk", {});
    StoreBe(std::span(bytes), length);
    EXPECT_FALSE(DecodeNbdInfoRequest(bytes)) << length;
  }
}

TEST(NbdProtocolTest, OptionHeaderIsBounded) {
  std::vector<std::byte> bytes;
  AppendBe(bytes, kNbdOptionMagic);
  AppendBe<uint32_t>(bytes, 7);
  AppendBe<uint32_t>(bytes, kNbdOptionBytesMax);
  const auto header = DecodeNbdOptionHeader(std::span(bytes).first<16>());
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->option, 7u);
  EXPECT_EQ(header->length, kNbdOptionBytesMax);
  StoreBe<uint32_t>(std::span(bytes).subspan(12), kNbdOptionBytesMax + 1);
  EXPECT_FALSE(DecodeNbdOptionHeader(std::span(bytes).first<16>()));
  StoreBe<uint32_t>(std::span(bytes).subspan(12), 0);
  bytes[0] = std::byte{0};
  EXPECT_FALSE(DecodeNbdOptionHeader(std::span(bytes).first<16>()));
}

TEST(NbdProtocolTest, RangesAreCheckedWithoutOverflow) {
  EXPECT_EQ(Check(NbdCommand::kRead, kSize - 512, 512), NbdError::kNone);
  EXPECT_EQ(Check(NbdCommand::kRead, kSize - 512, 513), NbdError::kInvalid);
  EXPECT_EQ(Check(NbdCommand::kRead, kSize, 1), NbdError::kInvalid);
  EXPECT_EQ(Check(NbdCommand::kRead, ~uint64_t{0}, 1), NbdError::kInvalid);
  EXPECT_EQ(Check(NbdCommand::kRead, ~uint64_t{0} - 511, 512),
            NbdError::kInvalid);
  EXPECT_EQ(Check(NbdCommand::kWrite, kSize - 1, 2), NbdError::kNoSpace);
  EXPECT_EQ(Check(NbdCommand::kWriteZeroes, 1, 0xffffffff), NbdError::kNoSpace);
  EXPECT_EQ(Check(NbdCommand::kTrim, 1, 0xffffffff), NbdError::kInvalid);
  EXPECT_EQ(Check(NbdCommand::kWriteZeroes, 0, kSize), NbdError::kNone);
}

TEST(NbdProtocolTest, LengthsAndFlagsAndCommandsAreChecked) {
  EXPECT_EQ(Check(NbdCommand::kRead, 0, 0), NbdError::kInvalid);
  EXPECT_EQ(CheckNbdRequest({0, 0, 0, 0, kNbdPayloadBytesMax + 1},
                            uint64_t{1} << 40, false),
            NbdError::kInvalid);
  EXPECT_EQ(CheckNbdRequest({0, 0, 0, 0, kNbdPayloadBytesMax},
                            uint64_t{1} << 40, false),
            NbdError::kNone);
  EXPECT_EQ(Check(NbdCommand::kWrite, 0, 1, kNbdFlagFua), NbdError::kNone);
  EXPECT_EQ(Check(NbdCommand::kWrite, 0, 1, kNbdFlagNoHole),
            NbdError::kInvalid);
  EXPECT_EQ(Check(NbdCommand::kWriteZeroes, 0, 1, kNbdFlagNoHole),
            NbdError::kNone);
  EXPECT_EQ(Check(NbdCommand::kRead, 0, 1, 1 << 2), NbdError::kInvalid);
  EXPECT_EQ(Check(static_cast<NbdCommand>(5), 0, 1), NbdError::kInvalid);
  EXPECT_EQ(Check(static_cast<NbdCommand>(77), 0, 1), NbdError::kInvalid);
  EXPECT_EQ(Check(NbdCommand::kFlush, 0, 0), NbdError::kNone);
}

TEST(NbdProtocolTest, ReadOnlyExportRefusesEveryChange) {
  for (const auto command :
       {NbdCommand::kWrite, NbdCommand::kTrim, NbdCommand::kWriteZeroes}) {
    EXPECT_EQ(Check(command, 0, 512, 0, true), NbdError::kPermission);
  }
  EXPECT_EQ(Check(NbdCommand::kRead, 0, 512, 0, true), NbdError::kNone);
  EXPECT_TRUE(NbdTransmissionFlags(true) & kNbdReadOnly);
  EXPECT_FALSE(NbdTransmissionFlags(true) & kNbdSendWriteZeroes);
}

TEST(NbdProtocolTest, ReplyIsSixteenBytesInNetworkOrder) {
  const auto reply = EncodeNbdReply(NbdError::kNoSpace, 0x0102030405060708);
  const std::array<uint8_t, 16> expected = {0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28,
                                            1,    2,    3,    4,    5, 6, 7, 8};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(reply[i], static_cast<std::byte>(expected[i])) << i;
  }
}

}  // namespace
}  // namespace bootstream
