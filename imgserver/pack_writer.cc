#include "imgserver/pack_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "blockmap/base/file_util.h"

namespace bootstream {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

}  // namespace

PackWriter::~PackWriter() {
  for (const Pack& pack : packs_) ::unlink(pack.path.c_str());
}

Status PackWriter::Begin() {
  Pack pack;
  pack.path =
      repository_.temporary_folder() + "/pack-" + std::to_string(packs_.size());
  fd_.reset(
      ::open(pack.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd_) return ErrnoError(errno, "create " + pack.path);
  packs_.push_back(std::move(pack));
  digest_.emplace();
  return OkStatus();
}

Status PackWriter::FlushBuffer() {
  if (auto status = WriteAll(fd_.get(), buffer_); !status) {
    return Annotate(status.error(), packs_.back().path);
  }
  digest_->Update(buffer_);
  buffer_.clear();
  return OkStatus();
}

Status PackWriter::End() {
  if (!fd_) return OkStatus();
  if (auto status = FlushBuffer(); !status) return status;
  if (::fsync(fd_.get()) != 0) {
    return ErrnoError(errno, "fsync " + packs_.back().path);
  }
  fd_.reset();
  packs_.back().entry.digest = digest_->Finish();
  return OkStatus();
}

Result<PackWriter::Place> PackWriter::Append(std::span<const std::byte> frame) {
  if (fd_ && packs_.back().entry.size_bytes + frame.size() > bytes_max_) {
    if (auto status = End(); !status) return status.error();
  }
  if (!fd_) {
    if (auto status = Begin(); !status) return status.error();
  }
  PackEntry& entry = packs_.back().entry;
  const Place place{packs_.size() - 1, entry.size_bytes};
  buffer_.insert(buffer_.end(), frame.begin(), frame.end());
  entry.size_bytes += frame.size();
  written_bytes_ += frame.size();
  if (buffer_.size() >= kBufferBytes) {
    if (auto status = FlushBuffer(); !status) return status.error();
  }
  return place;
}

Result<std::vector<PackEntry>> PackWriter::Finish() {
  if (auto status = End(); !status) return status.error();
  std::vector<PackEntry> entries;
  for (const Pack& pack : packs_) entries.push_back(pack.entry);
  return entries;
}

Status PackWriter::Publish() {
  while (!packs_.empty()) {
    const Pack& pack = packs_.back();
    if (auto s = repository_.PublishPack(pack.path, pack.entry.digest); !s) {
      return s;
    }
    packs_.pop_back();
  }
  return OkStatus();
}

}  // namespace bootstream
