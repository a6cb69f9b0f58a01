#!/usr/bin/env bash
# A repository that imgtool made works behind nginx, a plain HTTP server, and
# behind imgserver: every chunk comes over HTTP as it is on the disk.
set -euo pipefail

die() {
  echo "$0: $*" >&2
  exit 1
}

PATH=$PATH:/usr/sbin:/sbin
bin=$BUILD_DIR/imgserver
for program in nginx sgdisk mkfs.ext4 mkfs.vfat mcopy; do
  command -v "$program" >/dev/null || exit 77
done
work=$(mktemp -d -p /dev/shm bootstream-test.XXXXXX)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap cleanup EXIT

make_disk() {
  truncate -s 160M "$work/disk"
  sgdisk -n1:2048:+34M -t1:ef00 -n2:0:+24M -t2:8300 -n3:0:+96M -t3:8304 \
    "$work/disk" >/dev/null
  mkfs.vfat -F 32 -s 1 --offset 2048 "$work/disk" $((34 * 1024)) >/dev/null
  mkdir -p "$work/boot/grub" "$work/root/usr"
  head -c 6M /dev/urandom >"$work/boot/vmlinuz-1"
  mcopy -i "$work/disk@@1M" "$work/boot/vmlinuz-1" ::LOADER.EFI
  cp "$bin"/img* "$work/root/usr"
  mkfs.ext4 -q -d "$work/boot" -E offset=$((35 << 20)) "$work/disk" 24M
  mkfs.ext4 -q -d "$work/root" -E offset=$((59 << 20)) "$work/disk" 96M
}

# A port that was free a moment ago; tried again by the caller if it is taken.
free_port() {
  python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

start_nginx() {
  local port=$1
  cat >"$work/nginx.conf" <<END
daemon off;
pid $work/nginx.pid;
error_log $work/nginx.log;
events {}
http {
  access_log off;
  client_body_temp_path $work/t1;
  proxy_temp_path $work/t2;
  fastcgi_temp_path $work/t3;
  uwsgi_temp_path $work/t4;
  scgi_temp_path $work/t5;
  server { listen 127.0.0.1:$port; root $work/repo; }
}
END
  [ "$(id -u)" != 0 ] || sed -i '1i user root;' "$work/nginx.conf"
  nginx -c "$work/nginx.conf" 2>/dev/null &
  pids+=($!)
  until curl -fso /dev/null "http://127.0.0.1:$port/images/test/latest"; do
    kill -0 "${pids[-1]}" 2>/dev/null || return 1
    sleep 0.05
  done
}

read_image() {
  "$BUILD_DIR/tests/read_image" --image test --pubkey "$work/key.pub" \
    --disk "$work/disk" "$@"
}

make_disk
"$bin/imgtool" keygen --out "$work/key" >/dev/null
"$bin/imgtool" build --disk "$work/disk" --name test --version 1.0 \
  --repo "$work/repo" --key "$work/key" >/dev/null
"$bin/imgtool" verify --repo "$work/repo" --pubkey "$work/key.pub" >/dev/null ||
  die "the repository does not verify"
[ "$("$bin/imgtool" show --repo "$work/repo" --json test | jq .image_bytes)" = \
  $((160 << 20)) ] || die "show tells another size"

for _ in 1 2 3; do
  port=$(free_port)
  start_nginx "$port" && break
  port=
done
[ -n "$port" ] || die "nginx: $(cat "$work/nginx.log")"
read_image --url "http://127.0.0.1:$port/" || die "over nginx"
read_image --url "http://127.0.0.1:$port/" --class demand || die "demand"

"$bin/imgserver" serve --repo "$work/repo" --listen 127.0.0.1:0 \
  --port-file "$work/port" --access-log "$work/access.log" &
pids+=($!)
until [ -s "$work/port" ]; do
  kill -0 "${pids[-1]}" || die "imgserver ended"
  sleep 0.05
done
read_image --url "http://127.0.0.1:$(cat "$work/port")/" || die "over imgserver"

# Bad input: one sentence, and the exit code that says what to do.
expect() {
  local code=$1 words=$2
  shift 2
  local got=0
  "$@" >/dev/null 2>"$work/error" || got=$?
  [ "$got" = "$code" ] || die "$*: exit code $got instead of $code"
  grep -q "$words" "$work/error" || die "$*: said $(cat "$work/error")"
}
url=http://127.0.0.1:$port/
"$bin/imgtool" keygen --out "$work/other" >/dev/null
expect 3 "not trusted" "$BUILD_DIR/tests/read_image" --image test \
  --pubkey "$work/other.pub" --disk "$work/disk" --url "$url"
expect 1 "404" "$BUILD_DIR/tests/read_image" --image nothing \
  --pubkey "$work/key.pub" --disk "$work/disk" --url "$url"
expect 4 "onnect" read_image --url http://127.0.0.1:1/
expect 3 "published already" "$bin/imgtool" build --disk "$work/disk" \
  --name test --version 1 --repo "$work/repo" --key "$work/key"
expect 1 "is there already" "$bin/imgtool" keygen --out "$work/key"
expect 2 "name" "$bin/imgtool" build --disk "$work/disk"
cp "$work/repo/images/test/1.0/manifest" "$work/manifest"
printf x | dd of="$work/repo/images/test/1.0/manifest" bs=1 seek=300 \
  conv=notrunc status=none
expect 1 "altered" read_image --url "$url"
cp "$work/manifest" "$work/repo/images/test/1.0/manifest"

# A chunk with a flipped bit is refused, whatever the server does.
pack=$(find "$work/repo/packs" -type f | head -n 1)
printf x | dd of="$pack" bs=1 seek=100000 conv=notrunc status=none
expect 1 "digest is not its name\|wrong digest\|frame" \
  "$bin/imgtool" verify --repo "$work/repo" --pubkey "$work/key.pub"
echo "all right"
