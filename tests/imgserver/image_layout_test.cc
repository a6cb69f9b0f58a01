#include "imgserver/image_layout.h"

#include "imgserver/boot_directory.h"
#include "tests/imgserver/image_fixture.h"

namespace bootstream {
namespace {

class ImageLayoutTest : public ImageTest {
 protected:
  Result<ImageLayout> Read(const std::string& disk,
                           std::optional<uint32_t> boot_partition = {}) {
    const auto image = DiskImage::Open(disk);
    if (!image) return image.error();
    const Grid grid{kChunkBytesMin, image->size_bytes()};
    return ReadLayout(*image, grid, boot_partition);
  }
  void ExpectRefused(const std::string& disk, const std::string& words) {
    const auto layout = Read(disk);
    ASSERT_FALSE(layout);
    EXPECT_EQ(layout.error().code, ErrorCode::kRefused);
    EXPECT_NE(layout.error().message.find(words), std::string::npos)
        << layout.error().message;
  }
  static bool Covers(const std::vector<ByteExtent>& extents, uint64_t byte) {
    return std::any_of(extents.begin(), extents.end(),
                       [byte](const ByteExtent& e) {
                         return byte >= e.offset && byte < e.end();
                       });
  }
};

TEST_F(ImageLayoutTest, EspAndBootAreFoundAndPinned) {
  const auto layout = Read(MakeDisk("disk"));
  ASSERT_TRUE(layout) << layout.error().message;
  EXPECT_EQ(layout->pinned,
            (std::vector<ByteExtent>{
                {1 << 20, 1 << 20}, {2 << 20, 8 << 20}, {10 << 20, 16 << 20}}));
  EXPECT_TRUE(Covers(layout->boot, 1 << 20));    // boot code
  EXPECT_TRUE(Covers(layout->boot, 2 << 20));    // FAT
  EXPECT_TRUE(Covers(layout->boot, 10 << 20));   // ext4
  EXPECT_TRUE(Covers(layout->boot, 26 << 20));   // root's superblock
  EXPECT_FALSE(Covers(layout->boot, 9 << 20));   // free in the ESP
  EXPECT_FALSE(Covers(layout->boot, 40 << 20));  // in the root
}

TEST_F(ImageLayoutTest, BootPartitionCanBeNamed) {
  const auto disk = MakeDisk("disk");
  const auto layout = Read(disk, 4);
  ASSERT_TRUE(layout) << layout.error().message;
  EXPECT_TRUE(Covers(layout->pinned, 26 << 20));
  EXPECT_FALSE(Covers(layout->pinned, 10 << 20));
  EXPECT_FALSE(Read(disk, 7));
}

TEST_F(ImageLayoutTest, ARootFileSystemWithBootInItIsPinned) {
  MakeFile("disk", 64 << 20);
  Run("sgdisk -n1:2048:+40M -t1:8304 disk && mkdir -p root/boot/grub"
      " && mkfs.ext4 -q -d root -E offset=$((1<<20)) disk 40M");
  for (const auto& layout : {Read(Path("disk")), Read(Path("disk"), 1)}) {
    ASSERT_TRUE(layout) << layout.error().message;
    EXPECT_TRUE(layout->boot_in_root);
    EXPECT_EQ(layout->pinned, (std::vector<ByteExtent>{{1 << 20, 40 << 20}}));
    EXPECT_TRUE(Covers(layout->boot, 1 << 20));
    EXPECT_FALSE(Covers(layout->boot, 20 << 20));
  }
}

TEST_F(ImageLayoutTest, DiskWithoutTableIsRefused) {
  ExpectRefused(MakeFile("disk", 1 << 20), "no partition table");
}

TEST_F(ImageLayoutTest, NothingToBootFromIsRefused) {
  MakeFile("disk", 64 << 20);
  Run("sgdisk -n1:2048:+40M -t1:8300 disk");
  ExpectRefused(Path("disk"), "--boot-partition");
}

TEST_F(ImageLayoutTest, UnalignedPartitionIsRefused) {
  MakeFile("disk", 64 << 20);
  Run("sgdisk -a1 -n1:2049:+40M -t1:ef00 disk");
  ExpectRefused(Path("disk"), "4 KiB");
}

TEST_F(ImageLayoutTest, OddSizeIsRefused) {
  ExpectRefused(MakeFile("disk", (1 << 20) + 512), "multiple of 4096");
}

TEST_F(ImageLayoutTest, MbrDiskWithBootCodeInTheGap) {
  MakeFile("disk", 64 << 20);
  Run("printf 'label: dos\\nlabel-id: 0xdeadbeef\\n"
      "start=2048, size=32768, type=83, bootable\\n' | sfdisk disk"
      " && head -c 70000 /dev/urandom | dd of=disk bs=512 seek=1 conv=notrunc"
      " && mkdir -p boot/grub"
      " && mkfs.ext4 -q -d boot -E offset=$((1<<20)) disk 16M");
  const auto layout = Read(Path("disk"));
  ASSERT_TRUE(layout) << layout.error().message;
  EXPECT_TRUE(Covers(layout->boot, 512));
  EXPECT_TRUE(Covers(layout->boot, 70000));
  EXPECT_FALSE(Covers(layout->boot, 800000));
  EXPECT_EQ(layout->pinned, (std::vector<ByteExtent>{{1 << 20, 16 << 20}}));
  EXPECT_EQ(layout->table.table_extents.back(), (ByteExtent{0, 512}));
}

TEST_F(ImageLayoutTest, LinkToAKernelIsNoBootDirectory) {
  Run("mkdir -p root/boot && ln -s boot/vmlinuz-6 root/vmlinuz"
      " && truncate -s 8M fs && mkfs.ext4 -q -d root fs");
  EXPECT_EQ(*FindBootDirectory(Path("fs"), {0, 8 << 20}), BootDirectory::kNone);
  Run("touch root/vmlinuz-7 && rm fs && truncate -s 8M fs"
      " && mkfs.ext4 -q -d root fs");
  EXPECT_EQ(*FindBootDirectory(Path("fs"), {0, 8 << 20}), BootDirectory::kRoot);
}

}  // namespace
}  // namespace bootstream
