#include "tests/crash/stream_session.h"

#include <utility>

#include "blockmap/disk/find_migration.h"
#include "blockmap/image/image_facts.h"

namespace bootstream {

StreamSession::~StreamSession() { executor_.RunReady(); }

Result<std::unique_ptr<StreamSession>> StreamSession::Open(
    BlockDevice& device, const std::vector<std::byte>& image, Options options) {
  std::unique_ptr<StreamSession> session(new StreamSession);
  const Status status =
      RunInline(session->DoOpen(device, image, std::move(options)));
  if (!status) return status.error();
  return session;
}

Task<Status> StreamSession::DoOpen(BlockDevice& device,
                                   const std::vector<std::byte>& image,
                                   Options options) {
  if (!options.superblock) {
    const Sha256 no_serial{};
    auto found = co_await FindMigration(device, no_serial);
    if (!found) co_return found.error();
    if (!found->superblock) {
      co_return Error{ErrorCode::kNotFound, "no migration is found"};
    }
    options.superblock = std::move(found->superblock);
    const Phase phase = options.superblock->phase;
    if (phase < Phase::kArmed || phase > Phase::kSettled) {
      co_return Error{ErrorCode::kRefused,
                      "the phase is " + std::string(PhaseName(phase))};
    }
  }
  auto file = co_await MapStore::ReadManifest(device, *options.superblock);
  if (!file) co_return file.error();
  auto manifest =
      Manifest::OpenPinned(*file, options.superblock->manifest_digest);
  if (!manifest) co_return manifest.error();
  manifest_ = std::make_shared<const Manifest>(std::move(*manifest));
  auto store = co_await MapStore::Open(device, *options.superblock,
                                       FactsOf(manifest_), options.read_only);
  if (!store) co_return store.error();
  store_ = std::move(*store);
  if (options.starts && !options.read_only) {
    auto s = co_await store_->UpdateSuperblock([](Superblock& block) {
      if (block.phase == Phase::kArmed) block.phase = Phase::kStreaming;
      ++block.boots_total;
    });
    if (!s) co_return s;
  }
  // Shared without an owner: the image outlives us.
  const std::shared_ptr<const std::vector<std::byte>> shared(
      std::shared_ptr<void>(), &image);
  source_ =
      std::make_unique<FakeChunkSource>(shared, manifest_->grid().chunk_bytes);
  StreamEngine::Options engine_options;
  engine_options.read_only = options.read_only;
  engine_ = std::make_unique<StreamEngine>(executor_, device, *store_, *source_,
                                           manifest_, engine_options);
  co_return OkStatus();
}

Status StreamSession::Finish(Task<Status> task) {
  std::optional<Status> done;
  internal::RunInto(std::move(task), done);
  for (int turns = 0; !done; ++turns) {
    if (turns == 100000) return Error{ErrorCode::kIo, "it waits for ever"};
    executor_.Advance(std::chrono::milliseconds(1));
  }
  return std::move(*done);
}

Status StreamSession::ReadEach(const Visit& visit) {
  const uint64_t size_bytes = engine_->size_bytes();
  AlignedBuffer buffer(manifest_->grid().chunk_bytes);
  for (uint64_t at = 0; at < size_bytes; at += buffer.size()) {
    const auto out =
        buffer.span().first(std::min<uint64_t>(buffer.size(), size_bytes - at));
    if (auto s = Finish(engine_->Read(at, out)); !s) return s;
    visit(at, out);
  }
  return OkStatus();
}

Result<std::vector<std::byte>> StreamSession::ReadAll() {
  std::vector<std::byte> content;
  content.reserve(engine_->size_bytes());
  const auto s = ReadEach([&](uint64_t, std::span<const std::byte> part) {
    content.insert(content.end(), part.begin(), part.end());
  });
  if (!s) return s.error();
  return content;
}

Backfill::State StreamSession::BackfillToEnd() {
  Backfill backfill(executor_, *engine_, *store_, {});
  backfill.Start();
  for (int turn = 0; turn < 1000; ++turn) {
    const auto state = backfill.state();
    if (state == Backfill::State::kComplete ||
        state == Backfill::State::kRegionFull) {
      break;
    }
    executor_.Advance(std::chrono::seconds(1));
  }
  Spawn(backfill.Stop());
  const auto state = backfill.state();
  executor_.Advance(std::chrono::seconds(10));
  return state;
}

}  // namespace bootstream
