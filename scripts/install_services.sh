#!/usr/bin/env bash
# What some tests need besides Python packages, from Debian's own packages: Postgres, PgBouncer in front of it, and Chromium
# for the live page. The tests start their own, in temporary folders; without these programs they are skipped.
set -euo pipefail
run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
run apt-get update --quiet
run apt-get install --yes --quiet --no-install-recommends postgresql pgbouncer chromium
