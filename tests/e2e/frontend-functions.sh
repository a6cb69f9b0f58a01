# Sourced by the tests of the front ends.  Gives $work, a directory on tmpfs
# that goes away at the end, and serve_memory running in the background.

set -euo pipefail
work=$(mktemp -d /dev/shm/bootstream-test.XXXXXX)
server_pid=
device=

die() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "skipped: $*" >&2; exit 77; }

cleanup() {
  if [ -n "$server_pid" ]; then
    kill -KILL "$server_pid" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT

# start_server ARGUMENTS...: serve_memory, until it says where; sets $device.
# What it complains of is in $work/log.
start_server() {
  rm -f "$work/ready"
  mkfifo "$work/ready"
  "$BUILD_DIR/tests/serve_memory" "$@" >"$work/ready" 2>"$work/log" &
  server_pid=$!
  local word
  read -r word device <"$work/ready" || die "no start: $(cat "$work/log")"
  [ "$word" = ready ] || die "serve_memory said '$word'"
}

# stop_server: ask it to end, and expect that it does, in good order.
stop_server() {
  kill -TERM "$server_pid"
  wait "$server_pid" || die "serve_memory ended with $?: $(cat "$work/log")"
  server_pid=
}

# kill_server: as a crash would.
kill_server() {
  kill -KILL "$server_pid"
  wait "$server_pid" 2>/dev/null || true
  server_pid=
}

# wait_until COMMAND...: for a condition that is about to come true.
wait_until() {
  until "$@" >/dev/null 2>&1; do sleep 0.02; done
}

# random_file FILE MIB: bytes that differ everywhere.
random_file() {
  head -c "$2M" /dev/urandom >"$1"
}
