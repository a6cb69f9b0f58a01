#!/usr/bin/env bash
# shellcheck disable=SC2154  # NAME_url is set by name
# HTTPS over nginx with an authority of the office's own: --ca names the only
# one that is trusted; whoever is not it, or not the host that was asked for, or
# out of date, is refused in one sentence.  streamd alone takes a certificate
# that is wrong in its dates only, for chunks are checked by digest, and says
# so.  A clock that is earlier than the build does not matter.
. "$(dirname "$0")/office-functions.sh"
for program in nginx openssl; do
  command -v "$program" >/dev/null || exit 77
done

nginx_pid=
cleanup_nginx() {
  [ -z "$nginx_pid" ] || { kill "$nginx_pid" && wait "$nginx_pid"; } || true
  cleanup
}
trap cleanup_nginx EXIT

# authority NAME: NAME.pem and its key.
authority() {
  mkdir "$work/$1"
  : >"$work/$1/index"
  echo 01 >"$work/$1/serial"
  cat >"$work/$1/config" <<INNER
[ca]
default_ca = this
[this]
database = $work/$1/index
serial = $work/$1/serial
new_certs_dir = $work/$1
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:true
subjectKeyIdentifier = hash
INNER
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$work/$1.key" -subj "/CN=authority $1" -out "$work/$1.csr" \
    2>"$work/openssl.log"
  openssl ca -batch -config "$work/$1/config" -selfsign -extensions authority \
    -startdate 20200101000000Z -enddate 20500101000000Z \
    -keyfile "$work/$1.key" -in "$work/$1.csr" -out "$work/$1.pem" -notext \
    2>"$work/openssl.log" || die "openssl: $(cat "$work/openssl.log")"
}

# certificate NAME AUTHORITY HOST FROM TO
certificate() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$work/$1.key" -subj "/CN=$1" -addext "subjectAltName=$3" \
    -out "$work/$1.csr" 2>"$work/openssl.log"
  openssl ca -batch -config "$work/$2/config" -cert "$work/$2.pem" \
    -keyfile "$work/$2.key" -startdate "$4" -enddate "$5" \
    -in "$work/$1.csr" -out "$work/$1.pem" -notext 2>"$work/openssl.log" ||
    die "openssl: $(cat "$work/openssl.log")"
}

free_ports() {
  python3 -c 'import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))' "$1"
}

names=(good other host expired early)
# One server for each name, one that redirects to plain HTTP, and that one.
start_nginx() {
  local ports name i=0
  read -ra ports <<<"$(free_ports $((${#names[@]} + 2)))"
  {
    [ "$(id -u)" != 0 ] || echo "user root;"
    echo "daemon off; pid $work/nginx.pid; error_log $work/nginx.log;"
    echo "events {} http { access_log off;"
    for name in client_body proxy fastcgi uwsgi scgi; do
      echo "${name}_temp_path $work/t_$name;"
    done
    echo "root $work/repo;"
    for name in "${names[@]}"; do
      echo "server { listen 127.0.0.1:${ports[i]} ssl;"
      echo "ssl_certificate $work/$name.pem;"
      echo "ssl_certificate_key $work/$name.key; }"
      declare -g "${name}_url=https://127.0.0.1:${ports[i]}"
      i=$((i + 1))
    done
    echo "server { listen 127.0.0.1:${ports[i]} ssl;"
    echo "ssl_certificate $work/good.pem; ssl_certificate_key $work/good.key;"
    echo "return 302 http://127.0.0.1:${ports[i + 1]}\$request_uri; }"
    redirect_url=https://127.0.0.1:${ports[i]}
    echo "server { listen 127.0.0.1:${ports[i + 1]}; }"
    plain_url=http://127.0.0.1:${ports[i + 1]}
    echo "}"
  } >"$work/nginx.conf"
  nginx -c "$work/nginx.conf" 2>>"$work/nginx.log" &
  nginx_pid=$!
  until curl -fso "$work/latest" "$plain_url/images/desk/latest"; do
    kill -0 "$nginx_pid" 2>/dev/null || return 1
    sleep 0.05
  done
}

# plan CODE WORDS OPTIONS...: its exit code, and one sentence.
plan() {
  local code=$1 words=$2 got=0
  shift 2
  agent plan "$@" >"$work/out" 2>"$work/err" || got=$?
  [ "$got" = "$code" ] ||
    die "exit code $got instead of $code: $url $*: $(cat "$work/err")"
  [ "$code" = 0 ] && return
  grep -q -- "$words" "$work/err" || die "$url $*: $(cat "$work/err")"
  [ "$(grep -c . "$work/err")" = 1 ] || die "not one line: $(cat "$work/err")"
}

make_target
make_source
publish
authority ours
authority theirs
always=(20200101000000Z 20500101000000Z)
certificate good ours IP:127.0.0.1 "${always[@]}"
certificate other theirs IP:127.0.0.1 "${always[@]}"
certificate host ours DNS:images.example "${always[@]}"
certificate expired ours IP:127.0.0.1 20200101000000Z 20210101000000Z
certificate early ours IP:127.0.0.1 20490101000000Z 20500101000000Z
for attempt in 1 2 3 4 5; do
  start_nginx && break
  [ "$attempt" -lt 5 ] || die "nginx: $(cat "$work/nginx.log")"
done

ours=(--ca "$work/ours.pem")
url=$good_url
plan 0 "" "${ours[@]}"
plan 3 "certificate" # no authority of the system's has signed it
plan 3 "certificate.*theirs.pem" --ca "$work/theirs.pem"
plan 3 "cannot be read from" --ca "$work/nothing.pem"
url=$other_url plan 3 "certificate.*ours.pem" "${ours[@]}"
url=$host_url plan 3 "127.0.0.1.*ours.pem" "${ours[@]}"
url=$expired_url plan 3 "expired" "${ours[@]}"
url=$early_url plan 3 "not yet valid" "${ours[@]}"
url=$redirect_url plan 4 "redirect\|rotocol" "${ours[@]}"
# The second one is asked when the first is not to be trusted.
url=$other_url plan 0 "" "${ours[@]}" --server "$good_url"
# A clock of 1970 is taken as that of the build.
LD_PRELOAD=$BUILD_DIR/tests/libearly_clock.so plan 0 "" "${ours[@]}"
url=$early_url LD_PRELOAD=$BUILD_DIR/tests/libearly_clock.so \
  plan 3 "not yet valid" "${ours[@]}"

# With --ca the authorities of the system do not count, wherever they are.
if [ "$(id -u)" = 0 ]; then
  mkdir "$work/certs"
  cp "$work/ours.pem" "$work/certs/ca-certificates.crt"
  cp "$work/ours.pem" "$work/certs/ours.pem"
  openssl rehash "$work/certs" 2>"$work/openssl.log"
  system() {
    unshare --mount --propagation private bash -c \
      'mount --bind "$0" /etc/ssl/certs && "$@"' "$work/certs" \
      "$bootagent" plan --disk "$work/source.img" --server "$good_url" \
      --image desk --pubkey "$work/office.pub" --headroom 16777216 "$@" \
      >"$work/out" 2>"$work/err"
  }
  system || die "the system's authorities: $(cat "$work/err")"
  if system --ca "$work/theirs.pem"; then die "--ca is not the only one"; fi
fi

# The driver: dates are forgiven, and counted; nothing else is.
agent migrate --yes "${ours[@]}" >"$work/migrate.log" 2>&1 ||
  die "migrate: $(cat "$work/migrate.log")"
uri="nbd+unix:///?socket=$work/nbd"
source_is() { control status --json | jq -e ".source | $1" >"$work/jq"; }
for dated in "$expired_url" "$early_url"; do
  url=$dated
  cp --sparse=always "$work/source.img" "$work/armed.img"
  start_streamd socket --backfill-paused "${ours[@]}"
  qemu-img compare -f raw -F raw "$uri" "$work/target.img" \
    >"$work/compare" || die "over $url: $(cat "$work/compare")"
  source_is '.dated_certificates > 0 and .troubles.certificate == 0' ||
    die "not counted: $(control status --json)"
  control status >"$work/status"
  grep -q "certificate is not valid" "$work/status" || die "no warning"
  until grep -q "warning: a server's certificate" "$work/streamd.log"; do
    sleep 0.05
  done
  stop_streamd
  : >"$work/streamd.log"
  mv "$work/armed.img" "$work/source.img"
done
url=$other_url
start_streamd socket --backfill-paused --url "$host_url" --url "$redirect_url" \
  --url "$good_url" "${ours[@]}"
qemu-img compare -f raw -F raw "$uri" "$work/target.img" >"$work/compare" ||
  die "$(cat "$work/compare")"
source_is '.troubles.certificate >= 2 and .troubles.wrong_reply >= 1 and
  .dated_certificates == 0' || die "not counted: $(control status --json)"
stop_streamd
echo passed
