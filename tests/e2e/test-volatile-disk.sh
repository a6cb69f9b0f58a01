#!/usr/bin/env bash
# What QEMU, the client of tools/soak power, sends to serve_volatile: its
# flushes arrive as flushes, and what was flushed survives a cut.
set -euo pipefail
work=$(mktemp -d /dev/shm/bootstream-test.XXXXXX)
server_pid=

die() { echo "FAILED: $*" >&2; exit 1; }

cleanup() {
  [ -z "$server_pid" ] || kill -KILL "$server_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

start() {
  # The kernel may close the listener of one that has died a moment later.
  socket=$(mktemp -u "$work/nbd.XXXXXX")
  rm -f "$work/in" "$work/out"
  mkfifo "$work/in" "$work/out"
  "$BUILD_DIR/tests/serve_volatile" --file "$work/disk" --socket "$socket" \
    <"$work/in" >"$work/out" &
  server_pid=$!
  exec 3>"$work/in" 4<"$work/out"
  expect '^ready$'
}

# expect REGULAR_EXPRESSION: of the next line.
expect() {
  local line
  read -r line <&4 || die "serve_volatile ended instead of saying $1"
  grep -qE "$1" <<<"$line" || die "said '$line' instead of $1"
}

tell() { echo "$1" >&3; }

# client COMMANDS...: of qemu-io(1), which flushes at its end.
client() {
  local options=() command
  for command in "$@"; do options+=(-c "$command"); done
  qemu-io -f raw -t writeback "${options[@]}" \
    "nbd+unix:///?socket=$socket" >"$work/client" 2>&1 ||
    die "qemu-io: $(cat "$work/client")"
  ! grep -q 'verification failed' "$work/client" ||
    die "$(cat "$work/client")"
}

# wait_for_writes COUNT
wait_for_writes() {
  local line
  while :; do
    tell counts
    read -r line <&4 || die "serve_volatile ended"
    grep -q "\"writes\": $1," <<<"$line" && return
    kill -0 "$client_pid" || die "qemu-io: $(cat "$work/client")"
    sleep 0.02
  done
}

# killed_client WRITES...: that is killed when they are there.
killed_client() {
  local count=0 command
  mkfifo "$work/more"
  qemu-io -f raw -t writeback "nbd+unix:///?socket=$socket" \
    <"$work/more" >"$work/client" 2>&1 &
  client_pid=$!
  exec 5>"$work/more"
  for command in "$@"; do
    echo "$command" >&5
    wait_for_writes $((++count))
  done
  kill -KILL "$client_pid"
  wait "$client_pid" 2>/dev/null || true
  exec 5>&-
  rm "$work/more"
}

truncate -s 16M "$work/disk"
start
killed_client 'write -P 1 0 64k' 'write -P 2 64k 64k'
tell counts
expect '"writes": 2, "flushes": 0, "unflushed": 2'
# A new connection sees them; its flush covers them.
client 'read -P 1 0 64k' 'read -P 2 64k 64k' flush
tell counts
expect '"flushes": [1-9][0-9]*, "unflushed": 0'
tell mark
expect '"writes": 0'
killed_client 'write -P 3 0 64k' 'write -z 64k 64k' 'discard 128k 64k' \
  'write -P 4 1M 64k'
tell 'cut-at-flush 100 1'
expect '"unflushed": 4'
tell 'cut 5'
expect '"cut": .*"unflushed": 4, .*"by_command": 1'
wait "$server_pid" || die "serve_volatile ended with $?"
exec 3>&- 4<&-

# The end of standard input is no power cut.
truncate -s 0 "$work/disk"
truncate -s 16M "$work/disk"
start
killed_client 'write -P 7 4k 8k'
tell write-back
expect '"writes": 1, "flushes": 0, "unflushed": 0'
tell mark
expect '"writes": 0'
killed_client 'write -P 8 12k 4k'
exec 3>&-
wait "$server_pid" || die "serve_volatile ended with $?"
server_pid=
[ "$(tr -d '\0' <"$work/disk" | wc -c)" = 12288 ] || die "a write is lost"

# The victim ends when the power goes.
start
sleep 1000 &
victim=$!
tell "victim $victim"
expect '"unflushed": 0'
tell 'cut 1'
expect '"cut"'
code=0
wait "$victim" || code=$?
[ "$code" = 137 ] || die "the victim ended with $code"
wait "$server_pid" || die "serve_volatile ended with $?"
server_pid=
echo passed
