#!/usr/bin/env bash
# What some tests need besides Python packages, from Debian's own packages: Postgres, PgBouncer in front of it, and Chromium
# for the live page. The tests start their own, in temporary folders; without these programs they are skipped.
# Names choose: scripts/install_services.sh chromium
set -euo pipefail
[ $# -gt 0 ] || set -- postgresql pgbouncer chromium
run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
# A mirror that does not answer, or another apt that does not end, is not waited for long.
apt() {
  run env DEBIAN_FRONTEND=noninteractive timeout --kill-after=30 "$1" \
    apt-get --quiet -o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=30 "${@:2}"
}
apt 180 update || echo "apt-get update has failed; the lists that are there may do."
apt 600 install --yes --no-install-recommends "$@"
