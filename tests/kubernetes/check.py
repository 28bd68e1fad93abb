#!/usr/bin/env python3
"""Do the objects of deploy/kubernetes have the form that the Prometheus operator asks for?

    check.py CRDS [FOLDER]

CRDS is a folder with the operator's CustomResourceDefinitions (example/prometheus-operator-crd of its
repository), FOLDER defaults to deploy/kubernetes. For maintainers, by hand: needs pyyaml and jsonschema.
A field that the definition does not have is an error too: a cluster would drop it without a word.
"""
import pathlib
import sys

import jsonschema
import yaml


class Loader(yaml.SafeLoader):
    """YAML 1.1 has a special word `=`, which the definitions use as a plain one."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def closed(schema):
    """The same schema, in which objects have no fields but their own."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        schema["additionalProperties"] = False
    return schema


def definitions(folder):
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        crd = yaml.load(path.read_text(), Loader)
        for version in crd["spec"]["versions"]:
            kind = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
            found[kind] = closed(version["schema"]["openAPIV3Schema"])
            # Kubernetes' own part of every object.
            found[kind]["properties"]["metadata"] = {"type": "object"}
    return found


def main():
    known = definitions(pathlib.Path(sys.argv[1]))
    here = pathlib.Path(__file__).resolve().parent
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else here.parent.parent / "deploy/kubernetes"
    checked = faults = 0
    for path in sorted(folder.glob("*.yml")):
        document = yaml.load(path.read_text(), Loader)
        kind = (document.get("apiVersion"), document.get("kind"))
        if kind not in known:
            print(f"{path.name}: {kind[1] or 'no object'}, not the operator's")
            continue
        errors = list(jsonschema.Draft202012Validator(known[kind]).iter_errors(document))
        if kind[1] == "AlertmanagerConfig":
            # Routes below the root are open in the definition; they have the form of the root.
            route = known[kind]["properties"]["spec"]["properties"]["route"]
            for child in document["spec"]["route"]["routes"]:
                errors += jsonschema.Draft202012Validator(route).iter_errors(child)
        for error in errors:
            print(f"{path.name}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}")
        checked, faults = checked + 1, faults + len(errors)
        print(f"{path.name}: {kind[1]}, {len(errors)} faults")
    print(f"{checked} objects checked, {faults} faults")
    sys.exit(1 if faults or checked == 0 else 0)


main()
