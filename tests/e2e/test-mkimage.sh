#!/bin/bash
# What bootagent-mkimage puts into the agent's image, and when it makes none.
# mkinitramfs and lsinitramfs are stand-ins: an image is a list of files.
set -euo pipefail

source=$(readlink -f "$(dirname "$0")/../../bootagent/mkimage")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

die() {
  echo "$0: $*" >&2
  exit 1
}

mkdir bin boot out modules modules/6.12
: >boot/vmlinuz-6.12
echo key >key
echo authorities >authorities
sed "s|/usr/share/bootstream/agent|$source/agent|; s|\$share/boot.ipxe|$source/boot.ipxe|
  s|/boot/vmlinuz-|$work/boot/vmlinuz-|g; s|/lib/modules/|$work/modules/|
  s|/etc/bootstream/ca.pem ]|$work/no-ca ]|" "$source/bootagent-mkimage" \
  >mkimage
# Keeps the folder's content, and forgets the file that $without names.
cat >bin/mkinitramfs <<'END'
#!/bin/sh
[ "$1 $3" = "-d -o" ] || exit 1
rm -rf conf && cp -r "$2/bootstream" conf
{
  echo usr/sbin/bootagent
  ls "$2/bootstream" | sed 's|^|etc/bootstream/|'
} | grep -v "/${without:-nothing}\$" >"$4"
END
printf '#!/bin/sh\ncat "$1"\n' >bin/lsinitramfs
chmod 755 bin/*
export PATH=$work/bin:$PATH

# expect CODE WORDS ARGUMENTS...
expect() {
  local code=$1 words=$2 got=0
  shift 2
  sh mkimage --out out "$@" >said 2>&1 || got=$?
  [ "$got" = "$code" ] || die "$*: exit code $got instead of $code: $(cat said)"
  [ -z "$words" ] || grep -q -- "$words" said || die "$*: said $(cat said)"
}

expect 0 '' --pubkey key
cmp key conf/pubkey.pem
[ ! -e conf/min-version ] || die "a lowest version that nobody gave"
[ -e out/boot.ipxe ] && [ -e out/vmlinuz ] || die "not all was written"

expect 0 '' --pubkey key --min-version 13.2.0.65535 --ca authorities
[ "$(cat conf/min-version)" = 13.2.0.65535 ] || die "another version"
cmp authorities conf/ca.pem

for version in '' x 1. .1 1..2 1.2.3.4.5 65536 1.999999999 '*' '1 2'; do
  expect 2 'is no version' --pubkey key --min-version "$version"
done
expect 1 'no such public key' --pubkey nothing

# What is not in the image makes none; the one before stays.
before=$(cat out/initrd.img)
for without in bootagent pubkey.pem ca.pem min-version; do
  export without
  expect 1 "$without did not get into the image" --pubkey key \
    --ca authorities --min-version 13
  [ "$(cat out/initrd.img)" = "$before" ] || die "an image without $without"
  [ ! -e out/initrd.img.new ] || die "half an image is left"
done
