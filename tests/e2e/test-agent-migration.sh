#!/usr/bin/env bash
# The agent as people and scripts use it, over HTTP: plan, refusals that leave
# the disk as it was, migrate with stops in between, a server that goes away,
# status, check, rollback, forget.
set -euo pipefail

die() {
  echo "$0: $*" >&2
  exit 1
}

PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] && [ -w /dev/loop-control ] || exit 77
for program in sgdisk mkfs.ext4 mkfs.vfat mcopy debugfs jq flock; do
  command -v "$program" >/dev/null || exit 77
done
imgtool=$BUILD_DIR/imgserver/imgtool
imgserver=$BUILD_DIR/imgserver/imgserver
agent=$BUILD_DIR/bootagent/bootagent
work=$(mktemp -d -p /dev/shm bootstream-test.XXXXXX)
server=
stop_server() {
  [ -z "$server" ] || { kill "$server" && wait "$server" || true; }
  server=
}
cleanup() {
  stop_server 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

make_image() {
  truncate -s 64M image
  sgdisk -n1:2048:+8M -t1:ef00 -n2:0:+12M -t2:8300 -n3:0:+40M -t3:8304 \
    image >/dev/null
  mkfs.vfat --offset 2048 image $((8 * 1024)) >/dev/null 2>&1
  mkdir -p boot/grub root/usr
  head -c 6M /dev/urandom >boot/vmlinuz-1
  head -c 12M /dev/urandom >root/usr/data
  mcopy -i image@@1M boot/vmlinuz-1 ::LOADER.EFI
  mkfs.ext4 -q -d boot -E offset=$((9 << 20)) image 12M
  mkfs.ext4 -q -d root -E offset=$((21 << 20)) image 40M
}

make_source() {
  truncate -s 256M source
  sgdisk -n1:2048:+8M -t1:ef00 -n2:0:+240M -t2:8300 source >/dev/null
  mkdir -p old/etc
  for i in $(seq 40); do head -c 1M /dev/urandom >"old/file$i"; done
  echo old >old/etc/os
  mkfs.vfat --offset 2048 source $((8 * 1024)) >/dev/null 2>&1
  mkfs.ext4 -q -d old -E offset=$((9 << 20)) source 240M
}

start_server() {
  rm -f port
  "$imgserver" serve --repo repo --listen 127.0.0.1:0 \
    --port-file port --access-log access.log 2>server.log &
  server=$!
  until [ -s port ]; do
    kill -0 "$server" || die "imgserver: $(cat server.log)"
    sleep 0.05
  done
}

# expect CODE WORDS COMMAND...: its exit code, and what it says.
expect() {
  local code=$1 words=$2 got=0
  shift 2
  "$@" >out 2>err </dev/null || got=$?
  [ "$got" = "$code" ] || die "$*: exit code $got instead of $code: $(cat err)"
  grep -q -- "$words" err out || die "$*: said $(cat err out)"
}
hash_of() { sha256sum <"$1"; }
# refused WORDS OPTIONS...: migrate says no, in one line, and touches nothing.
refused() {
  local code=$1 words=$2 before
  shift 2
  before=$(hash_of disk)
  expect "$code" "$words" "$agent" migrate --yes --disk disk "$@"
  [ "$(grep -c '^bootagent:' err)" = 1 ] || die "not one sentence: $(cat err)"
  [ "$(hash_of disk)" = "$before" ] || die "$words: the disk was changed"
}
phase() { "$agent" status --json --disk disk | jq -r .phase; }

make_image
make_source
"$imgtool" keygen --out key >/dev/null
"$imgtool" keygen --out other >/dev/null
"$imgtool" build --disk image --name new --version 13.1 --repo repo \
  --key key >/dev/null 2>&1
start_server
url=http://127.0.0.1:$(cat port)
small=(--pubkey key.pub --headroom $((16 << 20)))
new=(--server "$url" --image new "${small[@]}")

# Refusals.
cp --sparse=always source disk
refused 3 "missing" --server "$url" --image new --pubkey key.pub
refused 3 "not trusted" --server "$url" --image new --pubkey other.pub
refused 3 "older than" "${new[@]}" --min-version 14
refused 3 "older than" "${new[@]}" --min-version 14 --min-version 12
refused 1 "404" --server "$url" --image nothing "${small[@]}"
refused 4 "onnect" --server http://127.0.0.1:1 --image new "${small[@]}"
refused 2 "when-full" "${new[@]}" --when-full perhaps
expect 3 "in use by another" flock disk \
  "$agent" migrate --yes --disk disk "${new[@]}"
expect 3 "nobody is there" "$agent" migrate --disk disk "${new[@]}"
[ "$(hash_of disk)" = "$(hash_of source)" ] || die "the disk was changed"
expect 2 "" "$agent" migrate --no-such-option
expect 0 "bootagent" "$agent" --version
expect 0 "rollback" "$agent" --help

mkdir mnt
loop=$(losetup -f --show -o $((9 << 20)) --sizelimit $((240 << 20)) disk)
mount "$loop" mnt
expect 3 "in use" "$agent" migrate --yes --disk disk "${new[@]}"
umount mnt
losetup -d "$loop"

debugfs -w -R "feature needs_recovery" "disk?offset=$((9 << 20))" \
  >/dev/null 2>&1
refused 3 "shut it down" "${new[@]}"
cp --sparse=always source disk
printf 'LUKS\272\276\000\001' | dd of=disk bs=1M seek=1 conv=notrunc status=none
dd if=/dev/zero of=disk bs=1M seek=9 count=1 conv=notrunc status=none
refused 3 "not supported yet\|no ext4\|signatures" "${new[@]}"
truncate -s 32M disk
refused 1 "partition table" "${new[@]}"
cp --sparse=always source disk

cp repo/images/new/13.1/manifest manifest
printf x | dd of=repo/images/new/13.1/manifest bs=1 seek=300 conv=notrunc \
  status=none
refused 1 "altered" "${new[@]}"
cp manifest repo/images/new/13.1/manifest

# The plan says what will be, and writes nothing.
"$agent" plan --disk disk "${new[@]}" --json --out plan >plan.json
cmp plan plan.json
jq -e '.guaranteed and .account.boot_set_chunks > 10' plan >/dev/null ||
  die "$(cat plan)"
[ "$(hash_of disk)" = "$(hash_of source)" ] || die "plan changed the disk"
expect 0 "boot set" "$agent" migrate --dry-run --disk disk "${new[@]}"
[ "$(phase)" = none ] || die "a phase before there is one"

# A chunk that is wrong on the server stops the migration before it begins to
# change anything but the region; a server that goes away does not undo it.
expect 4 "stopped" "$agent" migrate --yes --plan plan --pubkey key.pub \
  --headroom $((16 << 20)) --stop-at staged-recorded --batch-chunks 16
[ "$(phase)" = released ] || die "phase $(phase)"
expect 3 "on its way to" "$agent" migrate --yes --disk disk --image other \
  --server "$url" "${small[@]}"
# Another image is refused, and of the same one what is older; the one that is
# under way is not, even where it is older than what the server has now.
for version in 13.0 13.2; do
  "$imgtool" build --disk image --name new --version "$version" --repo repo \
    --key key >/dev/null 2>&1
done
before=$(hash_of disk)
older=(--server "$url" --image new:13.0 "${small[@]}")
expect 3 "13.0 is older than" "$agent" plan --disk disk "${older[@]}"
[ "$(wc -l <err)" = 1 ] || die "not one sentence: $(cat err)"
expect 3 "on its way to new 13.1" "$agent" migrate --yes --disk disk \
  "${older[@]}"
expect 0 "boot set" "$agent" plan --disk disk --server "$url" \
  --image new:13.1 "${small[@]}"
[ "$(hash_of disk)" = "$before" ] || die "the disk was changed"
cp --sparse=always disk released
expect 4 "stopped" "$agent" migrate --yes --disk disk --stop-at staged
stop_server
expect 4 "stopped" "$agent" migrate --yes --disk disk --stop-at home-recorded
expect 0 "match" "$agent" check --disk disk
expect 0 "armed" "$agent" migrate --yes --disk disk
[ "$(phase)" = armed ] || die "phase $(phase)"
expect 0 "armed" "$agent" migrate --yes --disk disk
expect 0 "match" "$agent" check --disk disk
expect 3 "under way" "$agent" forget --yes --disk disk
expect 0 "armed" "$agent" status --disk disk
sfdisk -d disk >/dev/null 2>&1 || die "no table on an armed disk"
[ "$(sgdisk -i 2 disk | grep 'GUID:')" = "$(sgdisk -i 2 image | grep 'GUID:')" ] ||
  die "the table is not the image's"
"$agent" status --json --disk disk >status
jq -e '.region[0].count > 0 and (.relocations | length) > 10 and
  .image.name == "new" and .chunks.at_home > 10' status >/dev/null ||
  die "$(cat status)"

# Back, stopped once on the way; everything outside the region is as it was.
expect 4 "stopped" "$agent" rollback --yes --disk disk \
  --stop-at exchange-source-recorded
expect 3 "rollback is under way" "$agent" migrate --yes --disk disk
expect 0 "old system is back" "$agent" rollback --yes --disk disk
[ "$(phase)" = parked ] || die "phase $(phase)"
python3 - <<'END'
import json
status = json.load(open("status"))
chunk = status["image"]["chunk_bytes"]
ours = {c for e in status["region"]
        for c in range(e["first"], e["first"] + e["count"])}
with open("disk", "rb") as now, open("released", "rb") as then:
    at = 0
    while block := now.read(chunk):
        if block != then.read(chunk) and at not in ours:
            raise SystemExit(f"chunk {at} differs")
        at += 1
END
e2fsck -fn "disk?offset=$((9 << 20))" >/dev/null 2>&1 || die "fsck"
mkdir out.d
debugfs -R "rdump / out.d" "disk?offset=$((9 << 20))" 2>/dev/null
rm out.d/.bootstream-region
rmdir out.d/lost+found
diff -r old out.d || die "the old system's files differ"

expect 3 "forget" "$agent" migrate --yes --disk disk "${new[@]}"
expect 0 "given up" "$agent" forget --yes --disk disk
[ "$(phase)" = none ] || die "phase $(phase) after forget"
debugfs -R "stat /.bootstream-region" "disk?offset=$((9 << 20))" 2>&1 |
  grep -q "not found" || die "the region file is still there"

# A pack that is short is found out before anything is written; one that is
# wrong from its second MiB on leaves a disk that can go on.
start_server
url=http://127.0.0.1:$(cat port)
pack=$(find repo/packs -type f -size +1M | head -n 1)
cp "$pack" pack
truncate -s 1M "$pack"
code=0
"$agent" migrate --yes --disk disk --server "$url" --image new "${small[@]}" \
  --give-up 2 2>err || code=$?
case $code in
1 | 4) ;;
*) die "exit code $code with half a pack: $(cat err)" ;;
esac
[ "$(phase)" = none ] || die "phase $(phase) with half a pack"
truncate -s "$(stat -c %s pack)" "$pack"
expect 1 "" "$agent" migrate --yes --disk disk --server "$url" --image new \
  "${small[@]}" --give-up 2
[ "$(phase)" = released ] || die "phase $(phase) with half a pack of zeroes"
cp pack "$pack"
expect 0 "armed" "$agent" migrate --yes --disk disk --server "$url"
echo "all right"
