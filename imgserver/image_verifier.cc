#include "imgserver/image_verifier.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "blockmap/image/pack.h"

namespace bootstream {
namespace {

struct FrameToCheck {
  uint64_t offset = 0;
  uint32_t packed_bytes = 0;
  uint32_t content_bytes = 0;
  Sha256 digest{};
  auto operator<=>(const FrameToCheck&) const = default;
};

struct PackToCheck {
  PackEntry entry;
  std::set<FrameToCheck> frames;
};

// By digest.
using Packs = std::map<Sha256, PackToCheck>;

void AddManifest(const Manifest& manifest, Packs& packs) {
  const ManifestContent& content = manifest.content();
  const Grid grid = manifest.grid();
  for (const ChunkRun& run : content.runs) {
    for (uint64_t i = 0; i < run.count; ++i) {
      const ChunkEntry& entry = content.chunks[run.entry + i];
      const PackEntry& pack = content.packs[entry.pack];
      PackToCheck& check = packs[pack.digest];
      check.entry = pack;
      check.frames.insert({entry.pack_offset, entry.packed_bytes,
                           grid.bytes_of(run.first + i), entry.digest});
    }
  }
}

// The first fault of a pack, if any.
class PackChecker {
 public:
  PackChecker(const Repository& repository, std::atomic<uint64_t>& done_bytes)
      : repository_(repository), done_bytes_(done_bytes) {}

  Status Check(const PackToCheck& pack) {
    const std::string path = repository_.pack_path(pack.entry.digest);
    if (!repository_.HasPack(pack.entry)) {
      return Error{ErrorCode::kCorrupt,
                   path + ": missing, or not of the size that a manifest says"};
    }
    fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd_) return ErrnoError(errno, "open " + path);
    if (auto status = CheckFrames(pack); !status) {
      return Annotate(status.error(), path);
    }
    if (auto status = CheckWhole(pack); !status) {
      return Annotate(status.error(), path);
    }
    return OkStatus();
  }

 private:
  Status Read(uint64_t offset, std::span<std::byte> out) {
    while (!out.empty()) {
      const ssize_t got = ::pread(fd_.get(), out.data(), out.size(),
                                  static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoError(errno, "read");
      if (got == 0) return Error{ErrorCode::kCorrupt, "has become shorter"};
      offset += static_cast<uint64_t>(got);
      out = out.subspan(static_cast<size_t>(got));
    }
    return OkStatus();
  }

  Status CheckFrames(const PackToCheck& pack) {
    std::vector<std::byte> frame;
    std::vector<std::byte> content;
    for (const FrameToCheck& it : pack.frames) {
      frame.resize(it.packed_bytes);
      content.resize(it.content_bytes);
      if (auto status = Read(it.offset, frame); !status) return status;
      if (auto s = decoder_.DecodeVerified(frame, it.digest, content); !s) {
        return Annotate(s.error(), "byte " + std::to_string(it.offset));
      }
      done_bytes_ += it.packed_bytes;
    }
    return OkStatus();
  }

  Status CheckWhole(const PackToCheck& pack) {
    std::vector<std::byte> buffer(1 << 20);
    Sha256Stream digest;
    for (uint64_t at = 0; at < pack.entry.size_bytes;) {
      const auto piece = std::span(buffer).first(
          std::min<uint64_t>(buffer.size(), pack.entry.size_bytes - at));
      if (auto status = Read(at, piece); !status) return status;
      digest.Update(piece);
      at += piece.size();
    }
    if (digest.Finish() == pack.entry.digest) return OkStatus();
    return Error{ErrorCode::kCorrupt, "its digest is not its name"};
  }

  const Repository& repository_;
  std::atomic<uint64_t>& done_bytes_;
  FrameDecoder decoder_;
  UniqueFd fd_;
};

void CheckPacks(const Repository& repository, const Packs& packs,
                Progress& progress, VerifyReport& report) {
  std::vector<const PackToCheck*> todo;
  for (const auto& [digest, pack] : packs) {
    todo.push_back(&pack);
    report.chunk_count += pack.frames.size();
    for (const auto& frame : pack.frames) {
      report.packed_bytes += frame.packed_bytes;
    }
  }
  report.pack_count = todo.size();
  progress.Start("verify", report.packed_bytes);
  std::atomic<uint64_t> done_bytes{0};
  std::atomic<size_t> next{0};
  std::atomic<size_t> ended{0};
  std::mutex mutex;
  const auto work = [&] {
    PackChecker checker(repository, done_bytes);
    for (size_t i = next++; i < todo.size(); i = next++) {
      if (const Status status = checker.Check(*todo[i]); !status) {
        const std::lock_guard lock(mutex);
        report.faults.push_back(status.error().message);
      }
    }
    ++ended;
    ended.notify_all();
  };
  const size_t thread_count = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < thread_count; ++i) threads.emplace_back(work);
  while (ended < thread_count) {
    progress.Set(done_bytes);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  for (auto& thread : threads) thread.join();
  progress.Set(done_bytes);
  progress.Finish();
  std::sort(report.faults.begin(), report.faults.end());
}

void CheckLatest(const Repository& repository, const TrustedKeys& keys,
                 const std::string& name,
                 const std::map<std::string, Sha256>& digests,
                 VerifyReport& report) {
  const auto latest = repository.LoadLatest(name, keys);
  if (!latest) {
    report.faults.push_back(latest.error().message);
    return;
  }
  const auto found = digests.find(latest->version);
  if (found == digests.end() || found->second != latest->manifest_digest) {
    report.faults.push_back(repository.latest_path(name) + ": names version " +
                            latest->version +
                            " with a manifest that is not there");
  }
}

}  // namespace

Result<VerifyReport> VerifyRepository(
    const Repository& repository, const TrustedKeys& keys,
    const std::optional<ImageReference>& image, Progress& progress) {
  const auto versions = repository.Versions();
  if (!versions) return versions.error();
  VerifyReport report;
  Packs packs;
  std::map<std::string, std::map<std::string, Sha256>> digests;
  const std::string wanted =
      image && image->version.empty()
          ? repository.LoadLatest(image->name, keys).value_or(Latest{}).version
          : (image ? image->version : "");
  for (const auto& version : *versions) {
    if (image && (version.name != image->name || version.version != wanted)) {
      continue;
    }
    const auto manifest = Repository::Load(version, &keys);
    ++report.manifest_count;
    if (!manifest) {
      report.faults.push_back(manifest.error().message);
      continue;
    }
    digests[version.name][version.version] = manifest->digest();
    AddManifest(*manifest, packs);
  }
  if (image && report.manifest_count == 0) {
    return Error{ErrorCode::kNotFound,
                 repository.folder() + " has no image " + image->name +
                     (wanted.empty() ? "" : ":") + wanted};
  }
  for (const auto& [name, of_image] : digests) {
    if (!image || image->version.empty()) {
      CheckLatest(repository, keys, name, of_image, report);
    }
  }
  CheckPacks(repository, packs, progress, report);
  return report;
}

}  // namespace bootstream
