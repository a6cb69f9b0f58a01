#include "tests/crash/target_model.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace bootstream {
namespace {

bool Same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::memcmp(a.data(), b.data(), a.size()) == 0;
}

// Of an image most is zero: it is there once, and stays in the cache.
std::span<const std::byte> BytesOf(const std::vector<std::byte>& content) {
  static const std::vector<std::byte> zeroes(kBlockBytes);
  return content.empty() ? zeroes : content;
}

}  // namespace

TargetModel::TargetModel(std::span<const std::byte> image)
    : size_bytes_(image.size()) {
  assert(image.size() % kBlockBytes == 0);
  for (uint64_t at = 0; at < image.size(); at += kBlockBytes) {
    Version first;
    const auto content = image.subspan(at, kBlockBytes);
    if (!Same(content, BytesOf({}))) {
      first.content.assign(content.begin(), content.end());
    }
    first.durable = 0;
    first.acknowledged = 0;
    blocks_.push_back({std::move(first)});
  }
}

uint64_t TargetModel::BeginWrite(uint64_t clock, uint64_t offset,
                                 std::span<const std::byte> data) {
  const uint64_t ticket = next_ticket_++;
  auto& places = under_way_[ticket];
  for (uint64_t done = 0; done < data.size();) {
    const uint64_t at = offset + done;
    const uint64_t block = at / kBlockBytes;
    const uint64_t inside = at % kBlockBytes;
    const uint64_t size =
        std::min<uint64_t>(data.size() - done, kBlockBytes - inside);
    Version version;
    const auto before = Latest(block);
    version.content.assign(before.begin(), before.end());
    std::memcpy(version.content.data() + inside, data.data() + done, size);
    version.begun = clock;
    version.ticket = ticket;
    version.whole = size == kBlockBytes;
    assert(blocks_[block].back().acknowledged != kNever);
    blocks_[block].push_back(std::move(version));
    places.push_back({block, blocks_[block].size() - 1});
    done += size;
  }
  return ticket;
}

void TargetModel::EndWrite(uint64_t ticket, uint64_t clock, bool fua) {
  const auto node = under_way_.extract(ticket);
  for (const Place& place : node.mapped()) {
    At(place).acknowledged = order_;
    if (fua) {
      At(place).durable = clock;
    } else {
      not_durable_.push_back(place);
    }
  }
  ++order_;
}

void TargetModel::EndFlush(uint64_t ticket, uint64_t clock) {
  std::erase_if(not_durable_, [&](const Place& place) {
    if (At(place).acknowledged >= ticket) return false;
    At(place).durable = clock;
    return true;
  });
}

std::span<const std::byte> TargetModel::Latest(uint64_t block) const {
  return BytesOf(blocks_[block].back().content);
}

std::vector<std::byte> TargetModel::LatestContent() const {
  std::vector<std::byte> content;
  content.reserve(size_bytes_);
  for (const auto& versions : blocks_) {
    const auto last = BytesOf(versions.back().content);
    content.insert(content.end(), last.begin(), last.end());
  }
  return content;
}

bool TargetModel::Allows(uint64_t block, std::span<const std::byte> content,
                         uint64_t clock, bool tore) const {
  const auto& versions = blocks_[block];
  size_t first = versions.size() - 1;
  while (versions[first].durable >= clock) --first;
  size_t end = first + 1;
  while (end < versions.size() && versions[end].begun < clock) ++end;
  const std::span allowed(&versions[first], end - first);
  bool mixes = tore;
  for (const Version& version : allowed) {
    if (Same(content, BytesOf(version.content))) return true;
    if (&version != &allowed.front()) mixes = mixes || !version.whole;
  }
  if (!mixes) return false;
  for (size_t at = 0; at < kBlockBytes; at += kSectorBytes) {
    const auto sector = content.subspan(at, kSectorBytes);
    const bool known = std::ranges::any_of(allowed, [&](const Version& v) {
      return Same(sector, BytesOf(v.content).subspan(at, kSectorBytes));
    });
    if (!known) return false;
  }
  return true;
}

std::string TargetModel::Check(uint64_t offset,
                               std::span<const std::byte> content,
                               uint64_t clock, bool tore) const {
  for (uint64_t at = 0; at < content.size(); at += kBlockBytes) {
    const uint64_t block = (offset + at) / kBlockBytes;
    if (Allows(block, content.subspan(at, kBlockBytes), clock, tore)) continue;
    const auto& versions = blocks_[block];
    std::string what = "block " + std::to_string(block) + " of the image";
    for (size_t i = 0; i < versions.size(); ++i) {
      if (Same(content.subspan(at, kBlockBytes),
               BytesOf(versions[i].content))) {
        return what + " reads as version " + std::to_string(i) + " of " +
               std::to_string(versions.size()) + ", which was overwritten";
      }
    }
    return what + " reads as what nobody wrote (" +
           std::to_string(versions.size()) + " versions)";
  }
  return "";
}

}  // namespace bootstream
