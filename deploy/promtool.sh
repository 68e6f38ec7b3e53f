#!/bin/sh
# promtool, which checks and tests Prometheus' rules: the system's, or the one in .tools, fetched once from Debian's package.
#
#   deploy/promtool.sh check config deploy/prometheus/prometheus.yml
#   deploy/promtool.sh test rules deploy/prometheus/tests/*.yml
#
# Nothing is installed. apt verifies the package: its SHA-256 has to be the one in the archive's signed lists. Without those lists
# (`apt-get update`), or on another system: put a promtool into PATH.
set -eu
tools=$(cd "$(dirname "$0")/.." && pwd)/.tools
say() { echo "passerelle: $*" >&2; }

if ! promtool=$(command -v promtool); then
    promtool=$tools/promtool
    if [ ! -x "$promtool" ]; then
        if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
            say "there is no promtool: install Prometheus' own, or put it into PATH"
            exit 2
        fi
        say "fetching Debian's package prometheus (19 MB) for promtool"
        mkdir -p "$tools"
        folder=$(mktemp -d "$tools/fetch-XXXXXX")
        trap 'rm -rf "$folder"' EXIT
        options="-o APT::Sandbox::User=root -o Acquire::Retries=0 -o Acquire::http::Timeout=20"
        # shellcheck disable=SC2086  # several words
        if ! (cd "$folder" && apt-get -qq $options download prometheus >&2); then
            say "apt does not get the package prometheus: run apt-get update, or put a promtool into PATH"
            exit 2
        fi
        dpkg-deb --extract "$folder"/prometheus_*.deb "$folder/package"
        mv "$folder/package/usr/bin/promtool" "$promtool"
        rm -rf "$folder"
        trap - EXIT
    fi
fi
[ $# -gt 0 ] || { echo "$promtool"; exit 0; }
exec "$promtool" "$@"
