#!/bin/bash
# What the initramfs is told of that the network needs to come back, what its
# hook makes of it, and that a start goes on whatever becomes of it.  In a mount
# namespace with folders of its own over /usr/sbin, /etc and others.
set -euo pipefail

source=$(readlink -f "$(dirname "$0")/../../initramfs")
[ "$(id -u)" = 0 ] || exit 77
if [ "${IN_NAMESPACE:-}" != 1 ]; then
  IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
for folder in etc usr/sbin usr/lib usr/share; do
  mkdir -p "/mnt/$folder/upper" "/mnt/$folder/work"
  mount -t overlay -o \
    "lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work" \
    overlay "/$folder"
done
work=/run/test
mkdir -p $work/bin
cd $work

die() {
  echo "$0: $*" >&2
  exit 1
}
lists() { grep -qxF -- "$1" list || die "not in the list: $1"; }
lists_not() { ! grep -qF -- "$1" list || die "in the list: $1"; }

# A system with a NetworkManager that is a program with libraries, a plugin, and
# network cards.
version=6.12.0-test
for name in NetworkManager streamctl streamd bootagent; do
  cp /bin/ls "/usr/sbin/$name"
done
libraries=/usr/lib/$(uname -m)-linux-gnu
mkdir -p "$libraries/NetworkManager/1.52" "/lib/firmware/updates/$version" \
  /lib/firmware/brcm "/lib/modules/$version/kernel/drivers/net/ethernet"
cp "$(ldd /bin/ls | sed -n 's/.*=> \(\/[^ ]*libc.so[^ ]*\) .*/\1/p')" \
  "$libraries/NetworkManager/1.52/libnm-settings-plugin-test.so"
: >/lib/firmware/tigon.bin
: >"/lib/firmware/updates/$version/tigon.bin"
: >/lib/firmware/brcm/fw-1.bin.xz
: >/lib/firmware/brcm/fw-2.bin.zst
: >"/lib/modules/$version/kernel/drivers/net/ethernet/tg-3.ko.xz"
mkdir -p /etc/bootstream/recovery.d /etc/bootstream/health.d
cat >/etc/bootstream/recovery.d/site.list <<'END'
# of this site
/opt/vpn/*
relative
/etc/vpn.conf
END
echo '/not/this' >/etc/bootstream/recovery.d/site.list.bak
cat >bin/modinfo <<'END'
#!/bin/sh
for file in "$@"; do
  echo "filename:       $file"
  echo "firmware:       tigon.bin"
  echo "firmware:       brcm/fw-*.bin"
  echo "firmware:       not-there.bin"
done
END
printf '#!/bin/sh\nexit 1\n' >bin/modprobe
chmod 755 bin/*
export PATH=$work/bin:$PATH

dash "$source/recovery/recovery-set" "$version" >list 2>said || die "exit $?"
[ ! -s said ] || die "said: $(cat said)"
lists /usr/sbin/NetworkManager
lists /usr/sbin/streamctl
for library in $(ldd /bin/ls | grep -o '/[^ ]*'); do lists "$library"; done
lists "$libraries/NetworkManager/1.52/libnm-settings-plugin-test.so"
lists /etc/nsswitch.conf
lists /etc/ssl/certs/ca-certificates.crt
lists /usr/lib/systemd/system/NetworkManager*
lists /etc/NetworkManager
lists "net=tg_3 /lib/firmware/tigon.bin"
lists "net=tg_3 /lib/firmware/updates/$version/tigon.bin"
lists "net=tg_3 /lib/firmware/brcm/fw-1.bin.xz"
lists "net=tg_3 /lib/firmware/brcm/fw-2.bin.zst"
lists_not not-there
lists '/opt/vpn/*'
lists /etc/vpn.conf
lists_not relative
lists_not /not/this
lists_not '#'
lists_not "$(printf '\t')"
[ -z "$(sort list | uniq -d)" ] || die "twice: $(sort list | uniq -d)"
! grep -vE '^(net=[^ ]+ )?/' list || die "no path"

# The hook.
mkdir -p /usr/share/initramfs-tools /usr/lib/bootstream initramfs/usr/sbin
cat >/usr/share/initramfs-tools/hook-functions <<'END'
copy_exec() { cp "$1" "${DESTDIR}$1"; }
auto_add_modules() { :; }
manual_add_modules() { :; }
END
cp "$source/recovery/recovery-set" /usr/lib/bootstream/
cp "$source/bootstream.conf" /etc/bootstream/
mkdir -p /usr/lib/udev/rules.d
: >/usr/lib/udev/rules.d/59-bootstream.rules
: >/etc/bootstream/pubkey.pem
hook() {
  DESTDIR=$work/initramfs CONFDIR=$work/conf MODULES=most version=$version \
    dash "$source/hooks/bootstream" >said 2>&1 || die "hook: $(cat said)"
}
hook
cmp list initramfs/etc/bootstream/recovery-set || die "another list"
printf '#!/bin/sh\necho /half\nexit 1\n' >/usr/lib/bootstream/recovery-set
hook
grep -q '^W: .*no list' said || die "no word: $(cat said)"
[ ! -e initramfs/etc/bootstream/recovery-set ] || die "half a list"

# The script that a start runs.
bottom() {
  : >calls
  printf '#!/bin/sh\necho "$*" >>%s/calls\nexit %s\n' $work "$1" >bin/streamctl
  chmod 755 bin/streamctl
  rootmnt=/root dash "$source/scripts/local-bottom/bootstream" >said 2>&1 ||
    die "the start ends with $?: $(cat said)"
}
mkdir -p /run/bootstream
cp list /etc/bootstream/recovery-set
bottom 0
[ ! -s calls ] || die "without a driver: $(cat calls)"
: >/run/bootstream/active
bottom 0
[ "$(cat calls)" = 'recovery-set --root /root --patience 60' ] ||
  die "called: $(cat calls)"
bottom 4
echo 'RECOVERY_PATIENCE=7' >>/etc/bootstream/bootstream.conf
bottom 1
grep -q -- '--patience 7$' calls || die "called: $(cat calls)"
echo 'RECOVERY_PATIENCE=0' >>/etc/bootstream/bootstream.conf
bottom 0
[ ! -s calls ] || die "though nobody wants it: $(cat calls)"
echo 'RECOVERY_PATIENCE=60' >>/etc/bootstream/bootstream.conf
rm /etc/bootstream/recovery-set
bottom 0
[ ! -s calls ] || die "without a list: $(cat calls)"
echo passed
