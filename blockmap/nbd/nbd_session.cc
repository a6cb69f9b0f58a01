#include "blockmap/nbd/nbd_session.h"

#include <sys/socket.h>

#include <utility>

#include "blockmap/nbd/nbd_handshake.h"
#include "blockmap/nbd/nbd_protocol.h"

namespace bootstream {
namespace {

// Bytes of payload that `request` keeps in memory.
size_t PayloadBytes(const NbdRequest& request) {
  const bool carries =
      request.is(NbdCommand::kRead) || request.is(NbdCommand::kWrite);
  return carries ? request.length : 0;
}

NbdError WireError(const Error& error) {
  return error.code == ErrorCode::kNoSpace ? NbdError::kNoSpace : NbdError::kIo;
}

}  // namespace

NbdSession::NbdSession(IoLoop& loop, BlockService& service,
                       const NbdOptions& options, UniqueFd socket)
    : loop_(loop),
      service_(service),
      options_(options),
      socket_(std::move(socket)),
      reader_(loop, socket_.get()),
      writer_(loop, socket_.get(),
              [this](size_t count, size_t bytes) { Gone(count, bytes); }) {}

Task<Status> NbdSession::Run(Start start) {
  Status status = co_await Serve(start);
  EndBatch();
  while (!idle()) co_await Change{*this};
  // Whoever woke us last is still on the stack, and uses members of ours.
  co_await loop_.Yield();
  ::shutdown(socket_.get(), SHUT_RDWR);
  if (!status && status.error().code == ErrorCode::kUnavailable) {
    co_return OkStatus();
  }
  co_return status;
}

void NbdSession::Stop() {
  stopping_ = true;
  ::shutdown(socket_.get(), SHUT_RD);
}

Task<Status> NbdSession::Serve(Start start) {
  if (start == Start::kHandshake) {
    const NbdExport offered{options_.export_name, service_.size_bytes(),
                            NbdTransmissionFlags(options_.read_only)};
    auto chosen = co_await NegotiateNbd(loop_, socket_.get(), reader_, offered);
    if (!chosen) co_return std::move(chosen.error());
    if (!*chosen) co_return OkStatus();
  }
  co_return co_await ReceiveRequests();
}

Task<Status> NbdSession::ReceiveRequests() {
  while (!stopping_) {
    if (reader_.available() < kNbdRequestBytes) {
      EndBatch();
      if (auto s = co_await reader_.Fill(kNbdRequestBytes); !s) co_return s;
      in_batch_ = true;
    }
    const auto request = DecodeNbdRequest(
        reader_.Consume(kNbdRequestBytes).first<kNbdRequestBytes>());
    if (!request) co_return request.error();
    if (request->is(NbdCommand::kDisconnect)) co_return OkStatus();
    if (auto s = co_await Accept(*request); !s) co_return s;
  }
  co_return OkStatus();
}

Task<Status> NbdSession::Accept(NbdRequest request) {
  const bool write = request.is(NbdCommand::kWrite);
  const size_t payload_bytes = PayloadBytes(request);
  if (write && payload_bytes > kNbdPayloadBytesMax) {
    co_return Error{
        ErrorCode::kInvalid,
        "nbd: a write of " + std::to_string(payload_bytes) + " bytes"};
  }
  const NbdError refused =
      CheckNbdRequest(request, service_.size_bytes(), options_.read_only);
  const size_t charged_bytes = refused == NbdError::kNone ? payload_bytes : 0;
  while (!HasRoom(charged_bytes)) {
    EndBatch();
    co_await Change{*this};
    in_batch_ = true;
  }
  requests_ += 1;
  bytes_ += charged_bytes;
  if (write && payload_bytes > reader_.available()) EndBatch();
  if (refused != NbdError::kNone) {
    Status skipped = OkStatus();
    if (write) skipped = co_await reader_.Skip(payload_bytes);
    in_batch_ = true;
    Reply(request, refused, AlignedBuffer(), 0);
    co_return skipped;
  }
  auto payload = AlignedBuffer::Unfilled(payload_bytes);
  if (write) {
    Status got = co_await reader_.ReadInto(payload.span());
    in_batch_ = true;
    if (!got) {
      Gone(1, charged_bytes);
      co_return got;
    }
  }
  if (request.is(NbdCommand::kRead) && options_.on_read) {
    options_.on_read(request.offset, request.length, loop_.Now());
  }
  Spawn(Carry(request, std::move(payload)));
  co_return OkStatus();
}

void NbdSession::EndBatch() {
  in_batch_ = false;
  writer_.Flush();
}

Task<void> NbdSession::Carry(NbdRequest request, AlignedBuffer payload) {
  const Status done = co_await Perform(request, payload);
  // Only a READ that went well sends what is in the buffer.
  if (!done || !request.is(NbdCommand::kRead)) payload = {};
  Reply(request, done ? NbdError::kNone : WireError(done.error()),
        std::move(payload), PayloadBytes(request));
  if (!in_batch_) writer_.Flush();
}

Task<Status> NbdSession::Perform(const NbdRequest& request,
                                 AlignedBuffer& payload) {
  switch (static_cast<NbdCommand>(request.command)) {
    case NbdCommand::kRead:
      return service_.Read(request.offset, payload.span());
    case NbdCommand::kWrite:
      return service_.Write(request.offset, payload.span(), request.fua());
    case NbdCommand::kFlush:
      return service_.Flush();
    case NbdCommand::kTrim:
      return Trim(request);
    case NbdCommand::kWriteZeroes:
      return service_.WriteZeroes(request.offset, request.length,
                                  request.fua());
    default:
      return Unknown();
  }
}

Task<Status> NbdSession::Trim(NbdRequest request) {
  Status status = co_await service_.Discard(request.offset, request.length);
  if (status && request.fua()) status = co_await service_.Flush();
  co_return status;
}

Task<Status> NbdSession::Unknown() {
  co_return Error{ErrorCode::kInvalid, "nbd: unknown command"};
}

void NbdSession::Reply(const NbdRequest& request, NbdError error,
                       AlignedBuffer payload, size_t charged_bytes) {
  NbdReply reply;
  reply.header = EncodeNbdReply(error, request.cookie);
  reply.payload = std::move(payload);
  reply.charged_bytes = charged_bytes;
  writer_.Add(std::move(reply));
}

void NbdSession::Gone(size_t count, size_t charged_bytes) {
  requests_ -= count;
  bytes_ -= charged_bytes;
  if (auto waiter = std::exchange(waiter_, {})) waiter.resume();
}

bool NbdSession::HasRoom(size_t bytes) const {
  if (requests_ >= kRequestsMax) return false;
  const size_t most = options_.payload_bytes_max;
  return bytes_ == 0 || (bytes_ <= most && bytes <= most - bytes_);
}

}  // namespace bootstream
