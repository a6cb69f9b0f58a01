#ifndef TESTS_IMGSERVER_IMAGE_FIXTURE_H_
#define TESTS_IMGSERVER_IMAGE_FIXTURE_H_

#include <string>

#include "blockmap/image/signing.h"
#include "imgserver/image_builder.h"
#include "tests/blockmap/disk/disk_fixture.h"

namespace bootstream {

// Disks as a small Debian has them, a key, and a repository.
class ImageTest : public DiskTest {
 protected:
  void SetUp() override {
    DiskTest::SetUp();
    const auto key = PrivateKey::Generate();
    ASSERT_TRUE(key->Save(Path("key")));
  }

  // GPT: BIOS boot 1 MiB, ESP 8 MiB, /boot 16 MiB, root 32 MiB; 64 MiB in all.
  std::string MakeDisk(const std::string& name) {
    MakeFile(name, 64 << 20);
    Run("sgdisk -U 11111111-2222-3333-4444-555555555555 -n1:2048:+1M "
        "-t1:ef02 -n2:0:+8M -t2:ef00 -n3:0:+16M -t3:8300 -n4:0:+32M -t4:8304 " +
        name + " && head -c 300000 /dev/urandom | dd of=" + name +
        " bs=1M seek=1 conv=notrunc"
        " && mkfs.vfat -F 16 -s 1 -i 12345678 --offset 4096 " +
        name +
        " 8192"
        " && mkdir -p boot/grub root/boot root/usr"
        " && head -c 3000000 /dev/urandom >boot/vmlinuz-6"
        " && head -c 200000 /dev/urandom >esp.efi"
        " && mcopy -i " +
        name +
        "@@2M esp.efi ::LOADER.EFI"
        " && head -c 9000000 /dev/urandom >root/usr/big"
        " && ln -sf boot/vmlinuz-6 root/vmlinuz"
        " && mkfs.ext4 -q -d boot -E offset=$((10<<20)) " +
        name +
        " 16M"
        " && mkfs.ext4 -q -d root -E offset=$((26<<20)) " +
        name + " 32M");
    return Path(name);
  }

  BuildOptions Options(const std::string& disk, const std::string& version,
                       const std::string& repository = "repo") {
    BuildOptions options;
    options.disk = disk;
    options.name = "debian";
    options.version = version;
    options.repository = Path(repository);
    options.key_file = Path("key");
    options.chunk_bytes = kChunkBytesMin;
    return options;
  }
  Result<BuildReport> Build(const BuildOptions& options) {
    Progress progress(stderr, Progress::Style::kSilent);
    return BuildImage(options, progress);
  }
  TrustedKeys Keys() {
    TrustedKeys keys;
    keys.Add(std::move(*PublicKey::Load(Path("key.pub"))));
    return keys;
  }
};

}  // namespace bootstream

#endif  // TESTS_IMGSERVER_IMAGE_FIXTURE_H_
