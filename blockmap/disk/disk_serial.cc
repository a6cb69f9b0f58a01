#include "blockmap/disk/disk_serial.h"

#include <openssl/sha.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <iterator>

namespace bootstream {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string Trimmed(const std::string& text) {
  constexpr const char* kBlank = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

}  // namespace

std::string DiskSerial(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISBLK(info.st_mode)) return {};
  const std::string sys = "/sys/dev/block/" +
                          std::to_string(major(info.st_rdev)) + ":" +
                          std::to_string(minor(info.st_rdev)) + "/";
  for (const char* name : {"serial", "device/serial"}) {
    std::string serial = Trimmed(ReadAll(sys + name));
    if (!serial.empty()) return serial;
  }
  // SCSI vital product data page 0x80: a header of four bytes, then the text.
  const std::string page = ReadAll(sys + "device/vpd_pg80");
  return page.size() > 4 ? Trimmed(page.substr(4)) : std::string();
}

Sha256 DiskSerialSha256(const std::string& path) {
  Sha256 digest{};
  const std::string serial = DiskSerial(path);
  if (serial.empty()) return digest;
  ::SHA256(reinterpret_cast<const unsigned char*>(serial.data()), serial.size(),
           reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

}  // namespace bootstream
