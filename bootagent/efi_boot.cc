#include "bootagent/efi_boot.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <string_view>

#include "blockmap/base/coding.h"

namespace bootstream {
namespace {

// The vendor of what the specification names, and the names themselves.
constexpr std::string_view kGlobal = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";
constexpr char kBootOrder[] = "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c";
constexpr char kBootNext[] = "BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c";
// Our own.
constexpr char kSaved[] =
    "BootstreamSaved-5f0a2c9e-3f1b-4c57-9d0e-7b1a4c6d8e21";
constexpr std::u16string_view kDescription = u"bootstream target";
constexpr std::u16string_view kLoader = u"\\EFI\\BOOT\\BOOTX64.EFI";
constexpr uint32_t kActive = 1;

// Device path nodes.
constexpr uint8_t kMedia = 4;
constexpr uint8_t kHardDrive = 1;
constexpr uint8_t kFilePath = 4;
constexpr uint8_t kEnd = 0x7f;
constexpr uint8_t kEndEntire = 0xff;
constexpr uint16_t kHardDriveBytes = 42;
constexpr uint8_t kGptFormat = 2;
constexpr uint8_t kGuidSignature = 2;

std::string BootName(uint16_t number) {
  char name[9];
  std::snprintf(name, sizeof name, "Boot%04X", number);
  return name + std::string(kGlobal);
}

void PutText(ByteWriter& out, std::u16string_view text) {
  for (const char16_t unit : text) out.U16(unit);
  out.U16(0);
}

std::vector<std::byte> MakeLoadOption(const Partition& esp) {
  std::vector<std::byte> option;
  ByteWriter out(option);
  const auto file_bytes = static_cast<uint16_t>(4 + 2 * (kLoader.size() + 1));
  out.U32(kActive);
  out.U16(static_cast<uint16_t>(kHardDriveBytes + file_bytes + 4));
  PutText(out, kDescription);
  out.U8(kMedia);
  out.U8(kHardDrive);
  out.U16(kHardDriveBytes);
  out.U32(esp.number);
  out.U64(esp.extent.offset / kSectorBytes);
  out.U64(esp.extent.size / kSectorBytes);
  out.Bytes(esp.guid);
  out.U8(kGptFormat);
  out.U8(kGuidSignature);
  out.U8(kMedia);
  out.U8(kFilePath);
  out.U16(file_bytes);
  PutText(out, kLoader);
  out.U8(kEnd);
  out.U8(kEndEntire);
  out.U16(4);
  return option;
}

struct ParsedOption {
  std::u16string description;
  std::optional<Uuid> partition;  // of its first hard drive node
};

ParsedOption ParseOption(std::span<const std::byte> option) {
  ParsedOption parsed;
  ByteReader in(option);
  in.U32();
  const uint16_t path_bytes = in.U16();
  while (in.ok()) {
    const uint16_t unit = in.U16();
    if (unit == 0) break;
    parsed.description += static_cast<char16_t>(unit);
  }
  ByteReader path(in.Bytes(path_bytes));
  while (path.ok() && path.remaining() >= 4) {
    const uint8_t type = path.U8();
    const uint8_t subtype = path.U8();
    const uint16_t size = path.U16();
    if (size < 4) break;
    ByteReader node(path.Bytes(size - 4u));
    if (type == kEnd) break;
    if (type != kMedia || subtype != kHardDrive) continue;
    node.Skip(20);
    const auto guid = node.Array<16>();
    if (node.ok()) parsed.partition = guid;
    break;
  }
  return parsed;
}

bool LeadsTo(std::span<const std::byte> option, const PartitionTable& table) {
  const auto guid = ParseOption(option).partition;
  return guid && std::ranges::any_of(table.partitions, [&](const auto& p) {
           return p.guid == *guid;
         });
}

std::optional<uint16_t> BootNumber(const std::string& variable) {
  // Boot0001-8be4df61-...
  if (!variable.starts_with("Boot") || variable.size() != 8 + kGlobal.size() ||
      !variable.ends_with(kGlobal)) {
    return std::nullopt;
  }
  uint16_t number = 0;
  for (int i = 4; i < 8; ++i) {
    const char c = variable[i];
    const bool digit = c >= '0' && c <= '9';
    if (!digit && !(c >= 'A' && c <= 'F')) return std::nullopt;
    number =
        static_cast<uint16_t>(number * 16 + (digit ? c - '0' : c - 'A' + 10));
  }
  return number;
}

}  // namespace

std::vector<EfiBoot::Entry> EfiBoot::Entries() const {
  std::vector<Entry> entries;
  for (const std::string& name : variables_.Names()) {
    const auto number = BootNumber(name);
    if (!number) continue;
    auto option = variables_.Read(name);
    if (option) entries.push_back({*number, std::move(*option)});
  }
  std::ranges::sort(entries, {}, &Entry::number);
  return entries;
}

std::optional<EfiBoot::Entry> EfiBoot::OwnEntry() const {
  for (Entry& entry : Entries()) {
    if (ParseOption(entry.option).description == kDescription) return entry;
  }
  return std::nullopt;
}

// The saved copy: u16 size and BootOrder; then for each entry u16 number, u16
// size, load option.
Status EfiBoot::Save(const PartitionTable& table) const {
  if (variables_.Read(kSaved)) return OkStatus();
  Bytes saved;
  ByteWriter out(saved);
  const auto order = variables_.Read(kBootOrder);
  const Bytes none;
  const Bytes& kept = order ? *order : none;
  out.U16(static_cast<uint16_t>(kept.size()));
  out.Bytes(kept);
  for (const Entry& entry : Entries()) {
    if (!LeadsTo(entry.option, table)) continue;
    out.U16(entry.number);
    out.U16(static_cast<uint16_t>(entry.option.size()));
    out.Bytes(entry.option);
  }
  return variables_.Write(kSaved, saved);
}

Status EfiBoot::Restore() const {
  if (const auto own = OwnEntry()) {
    if (auto s = variables_.Remove(BootName(own->number)); !s) return s;
    const auto next = variables_.Read(kBootNext);
    if (next && next->size() == 2 &&
        LoadLe<uint16_t>(std::span(*next).first<2>()) == own->number) {
      if (auto s = variables_.Remove(kBootNext); !s) return s;
    }
  }
  const auto saved = variables_.Read(kSaved);
  if (!saved) return OkStatus();
  ByteReader in(*saved);
  const auto order = in.Bytes(in.U16());
  std::set<uint16_t> taken;
  for (const Entry& entry : Entries()) taken.insert(entry.number);
  while (in.ok() && in.remaining() >= 4) {
    const uint16_t number = in.U16();
    const auto option = in.Bytes(in.U16());
    if (!in.ok() || taken.contains(number)) continue;
    if (auto s = variables_.Write(BootName(number), option); !s) return s;
  }
  if (in.ok() && !order.empty()) {
    if (auto s = variables_.Write(kBootOrder, order); !s) return s;
  }
  return variables_.Remove(kSaved);
}

Status EfiBoot::StartNextFrom(const PartitionTable& table) const {
  const auto esp =
      std::ranges::find(table.partitions, kEspTypeGuid, &Partition::type_guid);
  if (esp == table.partitions.end()) {
    return Error{ErrorCode::kNotFound,
                 "the disk has no EFI system partition to start from"};
  }
  std::set<uint16_t> taken;
  std::optional<uint16_t> number;
  for (const Entry& entry : Entries()) {
    taken.insert(entry.number);
    const ParsedOption option = ParseOption(entry.option);
    if (option.partition == esp->guid) number = entry.number;
  }
  if (!number) {
    const auto own = OwnEntry();
    number = own ? own->number : 0;
    while (!own && taken.contains(*number)) ++*number;
    auto s = variables_.Write(BootName(*number), MakeLoadOption(*esp));
    if (!s) return s;
  }
  std::array<std::byte, 2> next{};
  StoreLe<uint16_t>(next, *number);
  return variables_.Write(kBootNext, next);
}

}  // namespace bootstream
