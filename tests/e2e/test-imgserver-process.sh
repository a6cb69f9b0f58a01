#!/bin/bash
# The program as scripts use it: port file, clean stop while a body is being
# sent, exit codes, and errors that name the thing, the cause and the next step.
set -euo pipefail

imgserver=${BUILD_DIR:?}/imgserver/imgserver
command -v curl >/dev/null || exit 77
work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
# eventually COMMAND...: until it succeeds, a minute at most.
eventually() {
  local end=$((SECONDS + 60))
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || fail "never came true: $*"
    sleep 0.02
  done
}
# expect_error CODE WORD... -- ARGS...: the program fails so and says so.
expect_error() {
  local code=$1 words=() rc=0
  shift
  while [ "$1" != -- ]; do words+=("$1"); shift; done
  shift
  "$imgserver" "$@" >"$work/out" 2>"$work/err" || rc=$?
  [ "$rc" = "$code" ] || fail "exit code $rc, not $code: $*"
  for word in "${words[@]}"; do
    grep -qF -- "$word" "$work/err" || fail "no '$word' in: $(cat "$work/err")"
  done
}

mkdir -p "$work/repo/boot"
head -c 40000000 /dev/urandom >"$work/repo/boot/big"

expect_error 2 --repo -- serve --listen 127.0.0.1:0
expect_error 2 -- fly
expect_error 1 "$work/nowhere" "No such file" images/ -- \
  serve --repo "$work/nowhere" --listen 127.0.0.1:0
expect_error 1 localhost:80 0.0.0.0:8080 -- \
  serve --repo "$work/repo" --listen localhost:80
echo '{"idle_timeout": 3}' >"$work/bad.json"
expect_error 1 bad.json idle_timeout protocol.md -- \
  serve --repo "$work/repo" --listen 127.0.0.1:0 --config "$work/bad.json"
"$imgserver" --version | grep -q '^imgserver [0-9]' || fail "--version"
"$imgserver" serve --help | grep -q -- --port-file || fail "--help"

echo '{"stop_timeout_ms": 60000, "threads": 1}' >"$work/config.json"
"$imgserver" serve --repo "$work/repo" --listen 127.0.0.1:0 \
  --config "$work/config.json" --port-file "$work/port" \
  --access-log "$work/log" 2>"$work/stderr" &
server=$!
eventually test -s "$work/port"
address=127.0.0.1:$(cat "$work/port")
[ "$(wc -l <"$work/stderr")" = 1 ] || fail "stderr: $(cat "$work/stderr")"
grep -qF "http://$address" "$work/stderr" || fail "no address on stderr"
expect_error 1 "$address" "in use" --listen -- \
  serve --repo "$work/repo" --listen "$address"

# Stop it while a body is on its way: the reader holds the pipe until the server
# has stopped accepting, so the body cannot have been sent before.
mkfifo "$work/pipe"
curl -sSf "http://$address/boot/big" -o "$work/pipe" &
reader=$!
exec 3<"$work/pipe"
head -c 1000 <&3 >"$work/received"
kill -TERM "$server"
refused() { ! curl -s -o "$work/other" "http://$address/boot/none"; }
eventually refused
kill -0 "$server" || fail "it did not finish the answer in hand"
cat <&3 >>"$work/received"
wait "$reader" || fail "the reader failed"
rc=0
wait "$server" || rc=$?
server=
[ "$rc" = 0 ] || fail "exit code $rc after SIGTERM"
cmp "$work/repo/boot/big" "$work/received"
grep -q ' GET /boot/big - 200 4[0-9]* .* done$' "$work/log" ||
  fail "log: $(cat "$work/log")"
echo "ok"
