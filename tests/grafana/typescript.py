#!/usr/bin/env python3
"""Writes a TypeScript program that compiles only if a dashboard has the types of Grafana's own schema.

    typescript.py DASHBOARD.json > check.ts

Used by check.sh, which installs the schema and the compiler first. The dashboard as a whole, and the
options and custom field settings of each panel are compared, every one with the type that the panel's own
package has for it: a field that the type does not know or a value that it does not take is an error.
Missing fields are none, because Grafana fills them in. Queries are checked by sdk.py.
"""
import json
import sys

PACKAGES = {
    "stat": "stat/panelcfg/x/StatPanelCfg_types.gen",
    "gauge": "gauge/panelcfg/x/GaugePanelCfg_types.gen",
    "timeseries": "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
    "heatmap": "heatmap/panelcfg/x/HeatmapPanelCfg_types.gen",
    "table": "table/panelcfg/x/TablePanelCfg_types.gen",
}
# Written by Grafana and read by its Prometheus data source, and in no type of the schema.
BEYOND_THE_SCHEMA = {
    "annotation": ["expr", "step", "titleFormat", "textFormat"],
    "variable": ["definition"],
}
RAW = "@grafana/schema/dist/esm/raw/composable"
HEAD = """\
// What JSON can say of a type: an enum is any of its values.
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null ? T
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? {[K in keyof T]: Plain<T[K]>} : T;
type Parts<T> = T extends (infer U)[] ? Parts<U>[] : T extends object ? {[K in keyof T]?: Parts<T[K]>} : T;
"""


def main():
    dashboard = json.load(open(sys.argv[1]))
    print("import type { Dashboard } from '@grafana/schema';")
    for kind, package in PACKAGES.items():
        print(f"import type * as {kind} from '{RAW}/{package}';")
    print(HEAD)
    for annotation in dashboard["annotations"]["list"]:
        for field in BEYOND_THE_SCHEMA["annotation"]:
            del annotation[field]
    for variable in dashboard["templating"]["list"]:
        for field in BEYOND_THE_SCHEMA["variable"]:
            variable.pop(field, None)
    print("export const dashboard: Parts<Plain<Dashboard>> =", json.dumps(dashboard, indent=1), ";")
    for panel in dashboard["panels"]:
        kind, number = panel["type"], panel["id"]
        if kind == "row":
            continue
        print(f"export const o{number}: Parts<Plain<{kind}.Options>> = {json.dumps(panel['options'])};")
        custom = panel["fieldConfig"]["defaults"].get("custom")
        if custom is not None:
            print(f"export const c{number}: Parts<Plain<{kind}.FieldConfig>> = {json.dumps(custom)};")


main()
