"""Writes kserve_schemas.json, what our manifests use of the schemas of KServe's own kinds:

    python -m tests.deploy.kserve_schemas FOLDER

where FOLDER is config/crd/full of https://github.com/kserve/kserve. The whole schemas have two megabytes.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.documents import ROOT

MANIFESTS = ROOT / "deploy" / "kubernetes" / "kserve"
SCHEMAS = Path(__file__).with_suffix(".json")
FILES = {"runtime.yaml": "servingruntimes", "service.yaml": "inferenceservices"}


def used(schema: dict[str, Any], value: Any) -> Any:
    """The part of a schema that a value goes by; what it does not use is known by its name, and may be anything."""
    kept = {key: schema[key] for key in ("type", "required", "enum", "pattern", "minimum", "maximum") if key in schema}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(value, dict) and "properties" in schema:
        properties = {
            name: used(one, value[name]) if name in value else True for name, one in schema["properties"].items()
        }
        return kept | {"properties": properties, "additionalProperties": False}
    if isinstance(value, list):
        return kept | {"items": used(schema["items"], _together(value))}
    return kept


def _together(values: list[Any]) -> Any:
    """One value that has what any of them has."""
    return {name: one for value in values for name, one in value.items()} if isinstance(values[0], dict) else values[0]


def main(folder: Path) -> None:
    """Write the file."""
    schemas = {}
    for manifest, kinds in FILES.items():
        given = yaml.safe_load((MANIFESTS / manifest).read_text())
        found = yaml.safe_load((folder / f"serving.kserve.io_{kinds}.yaml").read_text())["spec"]
        version = given["apiVersion"].partition("/")[2]
        (whole,) = (one["schema"]["openAPIV3Schema"] for one in found["versions"] if one["name"] == version)
        schemas[given["kind"]] = used(whole["properties"]["spec"], given["spec"])
    SCHEMAS.write_text(json.dumps(schemas, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
