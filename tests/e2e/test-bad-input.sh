#!/usr/bin/env bash
# Bad input gets one clear sentence and the right exit code, and the disk stays
# as it was or can go on.
. "$(dirname "$0")/office-functions.sh"

make_office
sum() { sha256sum <"$work/source.img"; }
untouched=$(sum)

# refused CODE WORDS COMMAND...: one line on stderr that has WORDS in it.
refused() {
  local wanted=$1 words=$2 code=0
  shift 2
  "$@" >"$work/out" 2>"$work/err" || code=$?
  [ "$code" = "$wanted" ] || die "$*: exit code $code: $(cat "$work/err")"
  grep -qi -- "$words" "$work/err" || die "$*: $(cat "$work/err")"
  [ "$(grep -c '^bootagent: ' "$work/err")" = 1 ] ||
    die "$*: not one sentence: $(cat "$work/err")"
}
unchanged() { [ "$(sum)" = "$untouched" ] || die "the disk changed: $1"; }

# Another key.
"$imgtool" keygen --out "$work/other" >/dev/null
code=0
"$bootagent" migrate --disk "$work/source.img" --server "$url" --image desk \
  --pubkey "$work/other.pub" --yes 2>"$work/err" >/dev/null || code=$?
[ "$code" = 3 ] || [ "$code" = 1 ] || die "wrong key: $code"
unchanged "wrong key"

# A manifest with one bit flipped.
manifest=$work/repo/images/desk/1.0/manifest
cp "$manifest" "$work/manifest"
python3 - "$manifest" <<'END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(200)
    byte = file.read(1)[0]
    file.seek(200)
    file.write(bytes([byte ^ 1]))
END
refused 1 'manifest' agent migrate --yes
unchanged "altered manifest"
cp "$work/manifest" "$manifest"

# No such image; no server.
image=nothing:1.0 refused 1 'nothing' agent migrate --yes
unchanged "no such image"

# A region that does not fit says by how much.
headroom=700000000 refused 3 'MiB\|GiB' agent migrate --yes
unchanged "no room"

# An image larger than the disk.
truncate -s 64M "$work/small.img"
echo '2048,,L' | sfdisk -q "$work/small.img"
mkfs.ext4 -q -E offset=1048576 "$work/small.img" 62M
small=$(sha256sum <"$work/small.img")
disk=$work/small.img refused 3 'larger\|small' agent migrate --yes
[ "$(sha256sum <"$work/small.img")" = "$small" ] || die "small disk changed"

# A mounted disk.
mkdir "$work/mnt"
mount -o "loop,offset=1048576" "$work/source.img" "$work/mnt"
refused 3 'mounted\|in use' agent migrate --yes
umount "$work/mnt"
e2fsck -fy "$work/source.img?offset=1048576" >/dev/null 2>&1 || true
untouched=$(sum)

# The server stops in the middle: nothing but the region is touched, and it
# goes on when the server is back.
stop_serving
refused 4 'server\|connect' agent migrate --yes
serve
pack=$(find "$work/repo/packs" -type f -printf '%s %p\n' | sort -rn |
  head -n 1 | cut -d' ' -f2)
mv "$pack" "$pack.away"
code=0
agent migrate --yes --give-up 2 >"$work/out" 2>"$work/err" || code=$?
[ "$code" != 0 ] || die "migrated without packs"
mv "$pack.away" "$pack"
migrate
[ "$("$bootagent" status --disk "$work/source.img" --json | jq -r .phase)" = \
  armed ] || die "not armed"
echo passed
