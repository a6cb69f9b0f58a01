#include "initramfs/closure/grub_config.h"

#include <gtest/gtest.h>

namespace bootstream {
namespace {

using Paths = std::vector<std::string>;

TEST(GrubConfigTest, PathsOfCommandsAndVariablesAreFound) {
  const char config[] = R"(
# background_image /not/this
if loadfont $font ; then
  set theme=($root)/boot/grub/themes/office/theme.txt
fi
font="/usr/share/grub/unicode.pf2"
menuentry 'Debian GNU/Linux' --class os { linux /boot/vmlinuz-6.1 ro quiet
  initrd	/boot/initrd.img-6.1}
background_image -m stretch '/usr/share/a picture.png'
if background_image /grub/x.png; then true; fi
)";
  EXPECT_EQ(PathsNamedBy(config),
            (Paths{"/boot/grub/themes/office/theme.txt",
                   "/boot/initrd.img-6.1", "/boot/vmlinuz-6.1", "/grub/x.png",
                   "/usr/share/a picture.png", "/usr/share/grub/unicode.pf2"}));
}

TEST(GrubConfigTest, WhatIsComputedAtBootIsLeftOut) {
  EXPECT_EQ(PathsNamedBy("configfile ${prefix}/x.cfg\nfont=/a/${locale}.pf2\n"
                         "set root='hd0,gpt2'\nsearch --file ($root)x"),
            Paths{});
}

TEST(GrubConfigTest, BrokenTextIsReadToItsEnd) {
  EXPECT_EQ(PathsNamedBy("x \"/a b"), Paths{"/a b"});
  EXPECT_EQ(PathsNamedBy("(hd0"), Paths{});
  EXPECT_EQ(PathsNamedBy("/x\\"), Paths{"/x\\"});
  EXPECT_EQ(PathsNamedBy("# only this"), Paths{});
  EXPECT_EQ(PathsNamedBy(""), Paths{});
}

}  // namespace
}  // namespace bootstream
