#!/bin/bash
# When the target says that it has come up.  Runs the script of
# bootstream-health.service in dash with a systemctl that answers as it is told
# to and a streamctl that writes down that it was called, with the site's checks
# in an /etc/bootstream of its own.
set -euo pipefail

script=$(readlink -f "$(dirname "$0")/../../initramfs/report-health")
[ "$(id -u)" = 0 ] || exit 77
if [ "${IN_NAMESPACE:-}" != 1 ]; then
  IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi
mount -t tmpfs tmpfs /mnt
mkdir /mnt/{upper,work,bin}
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work \
  overlay /etc
checks=/etc/bootstream/health.d
mkdir -p "$checks"

failed=0
cat >/mnt/bin/systemctl <<'END'
#!/bin/sh
[ "$1" = --quiet ] && shift
case $1 in
is-active) case " $active " in *" $2 "*) exit 0 ;; esac; exit 3 ;;
is-enabled) case " $enabled " in *" $2 "*) exit 0 ;; esac; exit 1 ;;
get-default) echo "$default" ;;
esac
END
printf '#!/bin/sh\necho "$*" >>/mnt/said\n' >/mnt/bin/streamctl
chmod 755 /mnt/bin/*

# report: run it; what it says goes to /mnt/output, what it tells to /mnt/said.
report() {
  : >/mnt/said
  active=$active enabled=$enabled default=$default \
    PATH=/mnt/bin:/usr/bin:/bin dash "$script" >/mnt/output 2>&1
}
is_healthy() {
  report && [ "$(cat /mnt/said)" = healthy ] && return
  echo "FAIL: $1: not reported:" && cat /mnt/output
  failed=1
}
is_not_healthy() { # WHAT WORDS
  if report || [ -s /mnt/said ]; then
    echo "FAIL: $1: reported as healthy"
    failed=1
  elif ! grep -q -- "$2" /mnt/output; then
    echo "FAIL: $1: '$2' was not said:" && cat /mnt/output
    failed=1
  fi
}
check() { # NAME EXIT_CODE
  printf '#!/bin/sh\nexit %s\n' "$2" >"$checks/$1"
  chmod 755 "$checks/$1"
}

up="multi-user.target network-online.target"
enabled='' default=multi-user.target
active="$up getty.target"
is_healthy 'a server'
active="multi-user.target getty.target"
is_not_healthy 'no network' 'the network is not up'
active="network-online.target getty.target"
is_not_healthy 'boot not complete' 'multi-user.target has not been reached'
active=$up
is_not_healthy 'no login' 'nobody can log in'

enabled=display-manager.service default=graphical.target
active="$up getty.target"
is_not_healthy 'a desk without its display manager' 'display-manager.service'
active="$up display-manager.service"
is_healthy 'a desk'
default=multi-user.target
is_not_healthy 'a desk that starts without graphics' 'getty.target'
active="$up getty.target"
is_healthy 'a desk that starts without graphics'

check one 0
check two 0
is_healthy 'site checks'
check one 1
is_not_healthy 'a failing site check' "a check in $checks has failed"
check one 0
check not.taken 1
is_healthy 'a name that run-parts leaves alone'
rm -r "$checks"
is_healthy 'no checks at all'

exit $failed
