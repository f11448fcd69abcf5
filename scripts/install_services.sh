#!/usr/bin/env bash
# What some tests need besides Python packages, from Debian's own packages: Postgres, and PgBouncer in front of it. The
# tests start servers of their own, in temporary folders; without these programs they are skipped.
set -euo pipefail
run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
run apt-get update --quiet
run apt-get install --yes --quiet --no-install-recommends postgresql pgbouncer
