#include "blockmap/image/pack.h"

#include <zstd.h>

#include <cstdlib>

#include "blockmap/image/signing.h"

namespace bootstream {
namespace {

Error CorruptFrame(const std::string& what) {
  return Error{ErrorCode::kCorrupt, "frame: " + what};
}

}  // namespace

std::string PackPath(const Sha256& digest) {
  const std::string hex = ToHex(digest);
  return "packs/" + hex.substr(0, 2) + "/" + hex;
}

FrameEncoder::FrameEncoder(int level) : context_(ZSTD_createCCtx()) {
  if (!context_) std::abort();
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_contentSizeFlag, 1);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 0);
}

void FrameEncoder::Free::operator()(ZSTD_CCtx_s* context) const {
  ZSTD_freeCCtx(context);
}

Result<std::vector<std::byte>> FrameEncoder::Encode(
    std::span<const std::byte> content) {
  std::vector<std::byte> frame(ZSTD_compressBound(content.size()));
  const size_t size = ZSTD_compress2(context_.get(), frame.data(), frame.size(),
                                     content.data(), content.size());
  if (ZSTD_isError(size)) {
    return Error{ErrorCode::kIo,
                 std::string("zstd: ") + ZSTD_getErrorName(size)};
  }
  frame.resize(size);
  return frame;
}

FrameDecoder::FrameDecoder() : context_(ZSTD_createDCtx()) {
  if (!context_) std::abort();
}

void FrameDecoder::Free::operator()(ZSTD_DCtx_s* context) const {
  ZSTD_freeDCtx(context);
}

Status FrameDecoder::Decode(std::span<const std::byte> frame,
                            std::span<std::byte> content) {
  const unsigned long long stated =
      ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (stated != content.size()) {
    return CorruptFrame("does not state a size of " +
                        std::to_string(content.size()) + " bytes");
  }
  const size_t length =
      ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(length) || length != frame.size()) {
    return CorruptFrame("not exactly one");
  }
  const size_t size =
      ZSTD_decompressDCtx(context_.get(), content.data(), content.size(),
                          frame.data(), frame.size());
  if (ZSTD_isError(size)) return CorruptFrame(ZSTD_getErrorName(size));
  if (size != content.size()) return CorruptFrame("content is short");
  return OkStatus();
}

Status FrameDecoder::DecodeVerified(std::span<const std::byte> frame,
                                    const Sha256& digest,
                                    std::span<std::byte> content) {
  if (auto status = Decode(frame, content); !status) return status;
  if (Sha256Of(content) != digest) return CorruptFrame("wrong digest");
  return OkStatus();
}

}  // namespace bootstream
