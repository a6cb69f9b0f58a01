#include "blockmap/base/coding.h"
#include "blockmap/base/types.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds/seeds.h"

namespace bootstream {
namespace {

using Bytes = std::vector<std::byte>;

void Piece(Bytes& out, uint16_t lba, uint16_t at, const Bytes& data) {
  ByteWriter writer(out);
  writer.U16(lba);
  writer.U16(at);
  writer.U16(static_cast<uint16_t>(data.size()));
  writer.Bytes(data);
}

Bytes MbrEntry(uint8_t type, uint32_t first, uint32_t count) {
  Bytes entry;
  ByteWriter out(entry);
  out.U32(0);
  out.U8(type);
  out.Zeroes(3);
  out.U32(first);
  out.U32(count);
  return entry;
}

Bytes GptPrimary(uint64_t sectors) {
  Bytes header;
  ByteWriter out(header);
  out.Bytes(AsBytes("EFI PART"));
  out.U32(0x10000);
  out.U32(92);
  out.U64(0);  // checksum, reserved
  out.U64(1);
  out.U64(sectors - 1);
  out.U64(4);            // first usable
  out.U64(sectors - 4);  // last usable
  out.U64(0x1111);
  out.U64(0x2222);
  out.U64(2);    // entries
  out.U32(4);    // of them
  out.U32(128);  // bytes each
  out.U32(0);
  return header;
}

Bytes GptEntry(uint64_t first, uint64_t last) {
  Bytes entry;
  ByteWriter out(entry);
  out.U64(0xc12a7328);
  out.U64(0x3bc93ec9);
  out.U64(first);
  out.U64(first);
  out.U64(first);
  out.U64(last);
  out.U64(0);
  for (const char16_t unit : u"Esp \u00e9\u20ac") out.U16(unit);
  out.PadTo(128);
  return entry;
}

// A FAT's first sector, and the start of its table.
Bytes FatHead(uint16_t kib, uint8_t per_cluster, uint16_t fat_sectors) {
  Bytes head;
  ByteWriter out(head);
  out.U16(kib);
  out.Zeroes(11);
  out.U16(512);
  out.U8(per_cluster);
  out.U16(1);   // reserved
  out.U8(2);    // copies
  out.U16(16);  // root entries
  out.U16(static_cast<uint16_t>(kib * 2));
  out.U8(0xf8);
  out.U16(fat_sectors);
  out.PadTo(2 + 510);
  out.U16(0xaa55);
  for (int i = 0; i < 12; ++i) out.U32(i % 3 == 0 ? 0 : 0x0fff'ffff);
  return head;
}

}  // namespace

void PutTables(Seeds& seeds) {
  constexpr uint16_t kSectors = 200;
  const Bytes signature = {std::byte{0x55}, std::byte{0xaa}};
  const auto begin = [&](uint8_t flags) {
    Bytes disk;
    ByteWriter out(disk);
    out.U8(flags);
    out.U16(kSectors);
    Piece(disk, 0, 510, signature);
    return disk;
  };
  Bytes mbr = begin(0);
  Piece(mbr, 0, 446, MbrEntry(0x83, 8, 20));
  Piece(mbr, 0, 462, MbrEntry(0x05, 40, 100));
  Piece(mbr, 40, 510, signature);
  Piece(mbr, 40, 446, MbrEntry(0x83, 4, 10));
  Piece(mbr, 40, 462, MbrEntry(0x05, 50, 20));
  Piece(mbr, 90, 510, signature);
  Piece(mbr, 90, 446, MbrEntry(0x82, 2, 10));
  seeds.Put("partition_table", "mbr", mbr);
  Bytes gpt = begin(3);
  Piece(gpt, 0, 446, MbrEntry(0xee, 1, kSectors - 1));
  Piece(gpt, 1, 0, GptPrimary(kSectors));
  Piece(gpt, 2, 0, GptEntry(10, 20));
  Piece(gpt, 2, 128, GptEntry(21, 60));
  seeds.Put("partition_table", "gpt", gpt);
  seeds.Put("partition_table", "none", begin(0));
}

void PutFileSystems(Seeds& seeds) {
  seeds.Put("fat", "fat12", FatHead(1000, 1, 6));
  seeds.Put("fat", "fat16", FatHead(8000, 1, 63));
  Bytes fat32 = FatHead(40000, 1, 0);
  StoreLe<uint32_t>(std::span(fat32).subspan<2 + 32, 4>(), 80000);
  StoreLe<uint16_t>(std::span(fat32).subspan<2 + 19, 2>(), 0);
  StoreLe<uint32_t>(std::span(fat32).subspan<2 + 36, 4>(), 640);
  seeds.Put("fat", "fat32", fat32);
  seeds.Put("ext", "untouched", Bytes(1));
  for (const uint32_t at : {0x400U, 0x438U, 0x800U, 0xc00U, 0x1400U, 0x2000U}) {
    Bytes edit;
    ByteWriter out(edit);
    out.U8(static_cast<uint8_t>(at));
    out.U16(static_cast<uint16_t>(at >> 8));
    out.U8(2);
    out.U16(0x1234);
    seeds.Put("ext", "edit-" + std::to_string(at), edit);
  }
}

void PutFirmware(Seeds& seeds) {
  Bytes option;
  ByteWriter out(option);
  out.U32(7);  // attributes
  out.U32(1);
  out.U16(46);
  for (const char16_t unit : u"disk") out.U16(unit);
  out.U8(4);
  out.U8(1);
  out.U16(42);
  out.Zeroes(20);
  for (int i = 0; i < 16; ++i) out.U8(0x22);
  out.U16(0x0202);
  out.U32(0x0004ff7f);
  Bytes variables;
  ByteWriter all(variables);
  all.U16(static_cast<uint16_t>(option.size()));
  all.Bytes(option);
  all.U16(0);
  all.U16(6);
  all.U32(7);
  all.U16(0);
  seeds.Put("efi_boot", "entry", variables);
  all.U16(0);
  all.U32(7);
  all.U16(2);
  all.U16(0);
  all.U16(5);
  all.U16(static_cast<uint16_t>(option.size() - 4));
  all.Bytes(std::span(option).subspan(4));
  seeds.Put("efi_boot", "saved", variables);
}

}  // namespace bootstream
