#!/bin/sh
# Compares the dashboard with Grafana's own types. Needs npm and, the first time, the network; works in WORKDIR
# (default: target/dashboards). `cargo xtask test` runs the dashboard's queries against a real Prometheus besides.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$here/../target/dashboards}
mkdir -p "$work"
cp "$here/check/package.json" "$here/check/generate.mjs" "$work/"
cd "$work"
if ! cmp -s package.json node_modules/.installed; then
    npm install --no-package-lock --no-audit --no-fund --ignore-scripts --silent
    cp package.json node_modules/.installed
fi
node generate.mjs "$here/freezeframe.json" >check.ts
node_modules/.bin/tsc --noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler check.ts
echo "dashboards/freezeframe.json: as Grafana's types have it"
