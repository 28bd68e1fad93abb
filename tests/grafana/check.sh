#!/usr/bin/env bash
# Does Grafana's own software understand the dashboard? For maintainers, by hand: it installs packages from
# npm and PyPI into a folder that it removes again. Needs node, npm and python3.
#
#   tests/grafana/check.sh [DASHBOARD.json ...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
schema=13.2.3 typescript=5.9.3 sdk=1769699998!10.1.0
[ $# -gt 0 ] || set -- "$here/../../deploy/grafana/dashboard.json"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

npm install --prefix "$work" --no-audit --no-fund --silent "@grafana/schema@$schema" "typescript@$typescript"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "grafana-foundation-sdk==$sdk"

for dashboard in "$@"; do
    echo "== $dashboard: the types of @grafana/schema $schema"
    python3 "$here/typescript.py" "$dashboard" > "$work/check.ts"
    (cd "$work" && npx tsc --noEmit --strict --skipLibCheck --module nodenext --moduleResolution nodenext \
        --target es2022 check.ts)
    echo "no fault found"
    echo "== $dashboard: a round trip through the foundation SDK $sdk"
    "$work/venv/bin/python" "$here/sdk.py" "$dashboard"
done
