#include "tests/model/reference.h"

#include <algorithm>
#include <cstring>

namespace bootstream {
namespace {

uint32_t BitOf(int op) { return uint32_t{1} << op; }

bool Same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::memcmp(a.data(), b.data(), a.size()) == 0;
}

void KeepOnly(const std::set<uint32_t>& allowed, std::set<uint32_t>& set) {
  std::erase_if(set, [&allowed](uint32_t c) { return !allowed.contains(c); });
}

std::string SectorName(uint64_t sector) {
  return "image sector " + std::to_string(sector) + " (block " +
         std::to_string(sector * kSectorBytes / kBlockBytes) + ")";
}

}  // namespace

uint32_t ContentTable::Number(std::span<const std::byte> sector) {
  std::string bytes(reinterpret_cast<const char*>(sector.data()),
                    sector.size());
  const auto next = static_cast<uint32_t>(contents_.size());
  const auto [found, is_new] = numbers_.emplace(std::move(bytes), next);
  if (is_new) contents_.push_back(&found->first);
  return found->second;
}

std::span<const std::byte> ContentTable::Bytes(uint32_t number) const {
  return std::as_bytes(std::span<const char>(*contents_[number]));
}

std::span<const std::byte> Reference::BaseOf(uint64_t sector) const {
  return base_.subspan(sector * kSectorBytes, kSectorBytes);
}

Reference::Cell& Reference::CellOf(uint64_t sector) {
  const auto [found, is_new] = cells_.try_emplace(sector);
  Cell& cell = found->second;
  if (!is_new) return cell;
  const uint32_t base = table_.Number(BaseOf(sector));
  cell.states.emplace(base, 0);
  cell.after_cut.insert(base);
  for (const int op : flushes_) cell.since[op].insert(base);
  for (const auto& [op, span] : reads_) {
    if (sector >= span.first() && sector < span.end()) {
      cell.since[op].insert(base);
    }
  }
  return cell;
}

uint32_t Reference::Applied(const Change& change, uint64_t sector,
                            uint32_t content) const {
  const uint64_t start = sector * kSectorBytes;
  const uint64_t begin = std::max(start, change.offset);
  const uint64_t end =
      std::min(start + kSectorBytes, change.offset + change.data.size());
  std::array<std::byte, kSectorBytes> bytes;
  const auto before = table_.Bytes(content);
  std::copy(before.begin(), before.end(), bytes.begin());
  std::memcpy(bytes.data() + (begin - start),
              change.data.data() + (begin - change.offset), end - begin);
  return table_.Number(bytes);
}

void Reference::AddState(Cell& cell, uint32_t content, uint32_t applied) {
  cell.states.emplace(content, applied);
  cell.after_cut.insert(content);
  for (auto& [op, contents] : cell.since) {
    const bool is_fua = changes_.contains(op);
    if (!is_fua || (applied & BitOf(op)) != 0) contents.insert(content);
  }
}

void Reference::Close(Cell& cell, uint64_t sector) {
  for (bool more = true; more;) {
    const size_t before = cell.states.size();
    const auto states = cell.states;
    for (const auto& [op, change] : changes_) {
      const Span span{change.offset, change.data.size()};
      if (sector < span.first() || sector >= span.end()) continue;
      for (const auto& [content, applied] : states) {
        if ((applied & BitOf(op)) != 0) continue;
        AddState(cell, Applied(change, sector, content), applied | BitOf(op));
        if (change.is_hint) AddState(cell, content, applied | BitOf(op));
      }
    }
    more = cell.states.size() != before;
  }
}

std::set<uint32_t> Reference::Contents(const Cell& cell) {
  std::set<uint32_t> contents;
  for (const auto& [content, applied] : cell.states) contents.insert(content);
  return contents;
}

void Reference::BeginChange(int op, Change change) {
  const Span span{change.offset, change.data.size()};
  const bool fua = change.fua;
  changes_.emplace(op, std::move(change));
  for (uint64_t sector = span.first(); sector < span.end(); ++sector) {
    Cell& cell = CellOf(sector);
    for (const auto& [read, range] : reads_) {
      if (cell.since.contains(read)) cell.raced_reads.insert(read);
    }
    if (fua) cell.since[op];
    Close(cell, sector);
  }
}

void Reference::EndChange(int op, bool ok) {
  const Change& change = changes_.at(op);
  const Span span{change.offset, change.data.size()};
  for (uint64_t sector = span.first(); sector < span.end(); ++sector) {
    Cell& cell = CellOf(sector);
    std::set<std::pair<uint32_t, uint32_t>> states;
    for (const auto& [content, applied] : cell.states) {
      // A change that failed may have been made, or not.
      if (ok && (applied & BitOf(op)) == 0) continue;
      states.emplace(content, applied & ~BitOf(op));
    }
    cell.states = std::move(states);
    if (ok && change.fua) KeepOnly(cell.since[op], cell.after_cut);
    cell.since.erase(op);
  }
  changes_.erase(op);
}

void Reference::BeginFlush(int op) {
  flushes_.insert(op);
  for (auto& [sector, cell] : cells_) cell.since[op] = Contents(cell);
}

void Reference::EndFlush(int op, bool ok) {
  flushes_.erase(op);
  for (auto& [sector, cell] : cells_) {
    if (ok) KeepOnly(cell.since[op], cell.after_cut);
    cell.since.erase(op);
  }
}

void Reference::BeginRead(int op, uint64_t offset, uint64_t size) {
  const Span span{offset, size};
  reads_.emplace(op, span);
  for (auto& [at, cell] : cells_) {
    const uint64_t sector = at;
    if (sector < span.first() || sector >= span.end()) continue;
    cell.since[op] = Contents(cell);
    const bool raced = std::ranges::any_of(changes_, [&](const auto& change) {
      const Span other{change.second.offset, change.second.data.size()};
      return sector >= other.first() && sector < other.end();
    });
    if (raced) cell.raced_reads.insert(op);
  }
}

std::string Reference::EndRead(int op, std::span<const std::byte> data) {
  const Span span = reads_.at(op);
  reads_.erase(op);
  std::string why;
  for (uint64_t sector = span.first(); sector < span.end(); ++sector) {
    const auto bytes =
        data.subspan((sector - span.first()) * kSectorBytes, kSectorBytes);
    const auto found = cells_.find(sector);
    if (found == cells_.end()) {
      if (!Same(bytes, BaseOf(sector))) {
        why = SectorName(sector) + " reads as nobody wrote it";
      }
      continue;
    }
    Cell& cell = found->second;
    const uint32_t content = table_.Number(bytes);
    const bool raced = cell.raced_reads.contains(op);
    if (!cell.since[op].contains(content) ||
        (!raced && !Contents(cell).contains(content))) {
      why = SectorName(sector) + " reads as it cannot be";
    } else if (!raced) {
      // What was seen once, with no change under way, stays.
      std::erase_if(cell.states, [content](const auto& state) {
        return state.first != content;
      });
    }
    cell.since.erase(op);
    cell.raced_reads.erase(op);
  }
  return why;
}

std::string Reference::CheckAfterCut(std::span<const std::byte> image) const {
  for (uint64_t sector = 0; sector * kSectorBytes < image.size(); ++sector) {
    const auto bytes = image.subspan(sector * kSectorBytes, kSectorBytes);
    const auto found = cells_.find(sector);
    if (found == cells_.end()) {
      if (!Same(bytes, BaseOf(sector))) {
        return SectorName(sector) + " has changed and nobody wrote to it";
      }
      continue;
    }
    if (!found->second.after_cut.contains(table_.Number(bytes))) {
      return SectorName(sector) + " is lost or never was so";
    }
  }
  return {};
}

uint64_t Reference::CutFingerprint() const {
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 31;
  };
  for (const auto& [sector, cell] : cells_) {
    if (cell.after_cut.size() == 1 &&
        Same(table_.Bytes(*cell.after_cut.begin()), BaseOf(sector))) {
      continue;
    }
    add(sector);
    for (const uint32_t content : cell.after_cut) add(content + 1);
  }
  return hash;
}

}  // namespace bootstream
