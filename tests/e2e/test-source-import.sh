#!/usr/bin/env bash
# The old system's files in the new one, with the real programs: its file systems
# are mounted, read-only, while the driver is killed under them; folders are
# imported with their owners, over what is older and never over what is newer;
# nothing stays behind.  In a mount namespace with users, /home and /run of its
# own.
if [ "${BOOTSTREAM_PRIVATE:-}" != 1 ]; then
  [ "$(id -u)" = 0 ] && [ -c /dev/fuse ] && [ -c /dev/loop-control ] || {
    echo "skipped: not root, or the kernel has no FUSE or no loop devices" >&2
    exit 77
  }
  exec env BOOTSTREAM_PRIVATE=1 unshare --mount "$0"
fi
. "$(dirname "$0")/office-functions.sh"
trap 'unmount_all; cleanup' EXIT

unmount_all() {
  local mounted
  for mounted in $(grep -o " $work/[^ ]*" /proc/mounts | tac); do
    umount "$mounted"
  done
}

new_system() {
  mount -t tmpfs tmpfs /run
  mount -t tmpfs -o mode=755 tmpfs /home
  { cat /etc/passwd && echo alice:x:2001:2001::/home/alice:/bin/sh &&
    echo carol:x:2003:2003::/home/carol:/bin/sh; } >"$work/passwd"
  { cat /etc/group && echo alice:x:2001: && echo carol:x:2003: &&
    echo team:x:3100:; } >"$work/group"
  mount --bind "$work/passwd" /etc/passwd
  mount --bind "$work/group" /etc/group
}

# An old Linux with users' files, Windows profiles beside it, swap, and something
# that is encrypted.
make_source() {
  local old=$work/old data=$work/data
  tree "$old/home/alice/Documents" 40
  mkdir -p "$old/etc" "$old/home/bob" "$data/Users"/{Carol/Desktop,Public,Default}
  echo 'alice:x:1500:1500::/home/alice:/bin/sh
bob:x:1501:1501::/home/bob:/bin/sh' >"$old/etc/passwd"
  echo 'alice:x:1500:
bob:x:1501:
team:x:3000:' >"$old/etc/group"
  echo "the old one's" >"$old/home/alice/older-here"
  echo "the old one's" >"$old/home/alice/newer-here"
  echo secret >"$old/home/alice/.key"
  ln "$old/home/alice/.key" "$old/home/alice/.key2"
  ln -s /etc/passwd "$old/home/alice/link"
  chown -R 1500:1500 "$old/home/alice"
  chmod 600 "$old/home/alice/.key"
  echo shared >"$old/home/alice/shared"
  chown 1501:3000 "$old/home/alice/shared"
  touch -d '2020-01-01' "$old/home/alice"/{older,newer}-here
  echo note >"$old/home/bob/note"
  chown -R 1501:1501 "$old/home/bob"
  echo desk >"$data/Users/Carol/Desktop/file"
  echo registry >"$data/Users/Carol/NTUSER.DAT"
  echo public >"$data/Users/Public/file"
  truncate -s 768M "$work/source.img"
  printf '2048,680M,L\n1394688,40M,L\n1476608,16M,S\n1509376,,L\n' |
    sfdisk -q "$work/source.img"
  mkfs.ext4 -q -d "$old" -E offset=1048576 "$work/source.img" 680M
  mkfs.ext4 -q -L data -d "$data" -E offset=$((1394688 * 512)) \
    "$work/source.img" 40M
  truncate -s 16M "$work/swap"
  mkswap -q "$work/swap"
  dd if="$work/swap" of="$work/source.img" bs=512 seek=1476608 conv=notrunc \
    status=none
}

code_of() {  # code_of WANTED COMMAND...: its exit code; what it says is in said
  local wanted=$1 code=0
  shift
  "$@" >"$work/said" 2>&1 || code=$?
  [ "$code" = "$wanted" ] || die "$*: $code, $(cat "$work/said")"
}
says() { grep -q -- "$1" "$work/said" || die "not '$1': $(cat "$work/said")"; }
owner_is() {
  [ "$(stat -c %u:%g "$1")" = "$2" ] || die "$1 is $(stat -c %u:%g "$1")'s"
}
nothing_left() {
  [ "$(control status --json | jq .source_device)" = null ] || die "attached"
  [ -e /run/bootstream/source-mounts ] && die "mounts are recorded"
  [ -z "$(ls /run/bootstream/udev)" ] || die "roles: $(ls /run/bootstream/udev)"
  [ "$(losetup --list --noheadings --output BACK-FILE | grep -c source-fuse ||
    true)" = 0 ] || die "a loop device is left"
}

new_system
make_office
migrate
start_streamd fuse --keep --backfill-paused
mkdir -p /run/bootstream/udev

# Mounted, read-only, each with its number.
code_of 0 control source mount "$work/mnt"
says "partition 1 (ext4) is at $work/mnt/1"
says "partition 2 (ext4, 'data') is at $work/mnt/2"
says "partition 3 (swap) is swap space; it is left out"
says "partition 4 is nothing that is known; it is left out"
touch "$work/mnt/1/x" 2>/dev/null && die "written to the old system"
code_of 3 control source mount "$work/mnt"
code_of 0 control source mount "$work/one" --partition 2
cmp "$work/one/Users/Carol/Desktop/file" "$work/data/Users/Carol/Desktop/file"
code_of 1 control source mount "$work/none" --partition 3
code_of 1 control source mount "$work/none" --partition 9
for mounted in mnt/1 mnt/2 one; do
  findmnt -no OPTIONS "$work/$mounted" | grep -q '^ro,nosuid,nodev' ||
    die "$mounted: $(findmnt -no OPTIONS "$work/$mounted")"
done

# Used under a driver that dies, and not taken away from those who use it.
kill -KILL "$(control status --json | jq .pid)"
diff -r --exclude=.bootstream-region --exclude=lost+found "$work/old" \
  "$work/mnt/1" || die "not the old files"
tail -f "$work/mnt/1/etc/passwd" >/dev/null &
user=$!
code_of 3 control source detach
says "is in use"
code_of 3 control commit --yes
kill "$user" && wait "$user" || true
code_of 0 control source detach
[ -e "$work/mnt/1" ] || [ -e "$work/one" ] && die "directories are left"
nothing_left

# A loop device of somebody else on it is a user too.
old=$(control source attach)
loop=$(losetup --find --show --read-only "$old")
code_of 3 control source detach
says "$loop"
losetup --detach "$loop"
code_of 0 control source detach

# What would be copied; then the copy.
mkdir -p /home/alice
echo "the new one's" | tee /home/alice/newer-here >/home/alice/older-here
touch -d '2010-01-01' /home/alice/older-here
chown -R 2001:2001 /home/alice
code_of 0 control source import --dry-run
[ -e /home/alice/Documents ] && die "copied by --dry-run"
nothing_left
code_of 0 control source import
says "no user 'bob': the files keep their owner's number 1501"
diff -r "$work/old/home/alice/Documents" /home/alice/Documents ||
  die "not what it was"
owner_is /home/alice/Documents/7 2001:2001
owner_is /home/alice/shared 1501:3100
owner_is /home/bob/note 1501:1501
owner_is /home/carol/Desktop/file 2003:2003
[ "$(stat -c %a /home/alice/.key)" = 600 ] || die "not private any more"
[ "$(stat -c %h /home/alice/.key)" = 2 ] || die "two files of one"
[ "$(readlink /home/alice/link)" = /etc/passwd ] || die "the link"
[ "$(stat -c %a /home/carol/Desktop/file)" = 600 ] || die "a profile's rights"
[ -e /home/carol/NTUSER.DAT ] || [ -e /home/public ] || [ -e /home/default ] &&
  die "what is nobody's was copied"
[ "$(cat /home/alice/newer-here)" = "the new one's" ] || die "overwritten"
[ "$(cat /home/alice/older-here)" = "the old one's" ] || die "not brought"
[ "$(cat /home/alice/older-here.before-import)" = "the new one's" ] ||
  die "what was there is lost"
nothing_left

# Cut off, with a file half copied, it goes on; what was edited stays.
echo edited >/home/alice/Documents/3
rm /home/alice/Documents/{8,9}
mkdir /home/alice/Documents/.bootstream-partial
head -c 500 "$work/old/home/alice/Documents/8" \
  >/home/alice/Documents/.bootstream-partial/8
code_of 0 control source import /home/alice
cmp /home/alice/Documents/8 "$work/old/home/alice/Documents/8"
cmp /home/alice/Documents/9 "$work/old/home/alice/Documents/9"
[ "$(cat /home/alice/Documents/3)" = edited ] || die "an edit is lost"
[ -e /home/alice/Documents/.bootstream-partial ] && die "a part is left"

# Folders by name; words that make no sense.
code_of 0 control source import --map-owner bob:alice --map-owner 7:carol \
  /home/bob --to /home/kept
owner_is /home/kept/bob/note 2001:2001
code_of 0 control source mount "$work/mnt"
code_of 0 control source import /etc --to "$work/etc-was"
cmp "$work/etc-was/etc/passwd" "$work/old/etc/passwd"
[ -e "$work/mnt/1/etc" ] || die "another's mount was taken away"
code_of 0 control source import --from "$work/mnt" /home/bob
code_of 0 control source detach
code_of 2 control source import /etc
code_of 2 control source import /home/../etc
code_of 2 control source import --map-owner bob:nobody-here
code_of 2 control source import --no-such-option
code_of 1 control source import /home/nobody

# What does not fit is refused before any of it is copied.
mkdir -p "$work/huge/home/alice"
truncate -s 6T "$work/huge/home/alice/film"
code_of 3 control source import --from "$work/huge" --to "$work/too-much"
says "are missing; nothing was copied"
code_of 0 control source import --from "$work/huge" --to "$work/too-much" \
  --dry-run
says "are missing"
[ ! -e "$work/too-much" ] || die "something was copied"
mkdir "$work/empty"
code_of 1 env PATH="$work/empty" "$streamctl" --control "$work/control" \
  source import
says "rsync is not installed on this system; install the package rsync"
nothing_left

# Without a keeper it is gone with the driver, and nothing of it is left that
# would hide another's loop device from udev.
stop_streamd
start_streamd fuse
dead=$(control source attach)
python3 -c 'import sys, time
disk = open(sys.argv[1], "rb", buffering=0)
open(sys.argv[2], "w").close()
time.sleep(1000)' "$dead" "$work/opened" &
user=$!
until [ -e "$work/opened" ]; do sleep 0.02; done
kill_streamd
start_streamd fuse
[ "$(control status --json | jq .source_device)" = null ] || die "attached"
old=$(control source attach)
[ "$old" != "$dead" ] || die "a dead device in use was taken"
[ "$(ls /run/bootstream/udev)" = "${old#/dev/}" ] ||
  die "roles: $(ls /run/bootstream/udev), not ${old#/dev/}"
kill "$user" && wait "$user" || true
control source detach
nothing_left

code_of 0 control commit --yes
code_of 3 control source import
stop_streamd
echo passed
