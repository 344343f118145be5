"""Reads compose/ as docker compose does, without it: YAML, variables, the schema of docker-compose 1.29 (what is valid there, the plugin takes)."""

import json
import re
import sys
from pathlib import Path

import packages

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"
FILES = ("compose.yaml", "cluster.yaml")
VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")
KINDS = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "null": type(None), "object": dict, "array": list}


def brought(say=print):
    """The folder of the parser and the schema."""
    return packages.bring("compose-files", "ruamel.yaml", say)


def parse(text):
    """All documents of a YAML text."""
    folder = str(brought())
    if folder not in sys.path:
        sys.path.append(folder)
    from ruamel.yaml import YAML  # noqa: PLC0415
    return list(YAML(typ="safe", pure=True).load_all(text))


def raw(name):
    """A compose file as it is written, with its variables."""
    return parse((COMPOSE / name).read_text())[0]


def load(name, environment=None):
    """A compose file with its variables as they are where nobody has set one."""
    return substituted(raw(name), environment or {})


def substituted(value, environment):
    if isinstance(value, dict):
        found = {key: substituted(inner, environment) for key, inner in value.items()}
        # Compose makes a number of it, where one is wanted.
        return found | ({"nofile": int(found["nofile"])} if "nofile" in found else {})
    if isinstance(value, list):
        return [substituted(inner, environment) for inner in value]
    if isinstance(value, str):
        return VARIABLE.sub(lambda found: environment.get(found[1]) or found[2] or "", value)
    return value


def variables(text):
    """Variables of a file and their defaults, comments left out: {name: {default, ...}}."""
    found = {}
    for name, default in VARIABLE.findall(re.sub(r"(?m)^\s*#.*", "", text)):
        found.setdefault(name, set()).add(default)
    return found


def schema():
    return json.loads((brought() / "compose/config/compose_spec.json").read_text())


def faults(value, rule, whole, where=""):
    """What is wrong with a value by a JSON schema, of which the words that compose uses are understood."""
    if "$ref" in rule:
        target = whole
        for step in rule["$ref"].removeprefix("#/").split("/"):
            target = target[step] if step in target else next(part for part in [target] if part.get("id") == rule["$ref"])
        return faults(value, target, whole, where)
    for word in ("oneOf", "anyOf"):
        if word in rule:
            tried = [faults(value, choice, whole, where) for choice in rule[word]]
            return [] if any(not found for found in tried) else min(tried, key=len)
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    right = [kind for kind in kinds if isinstance(value, KINDS[kind]) and not (kind in ("number", "integer") and isinstance(value, bool))]
    if kinds and not right:
        return [f"{where}: {value!r} is no {' or '.join(kinds)}"]
    if "enum" in rule and value not in rule["enum"]:
        return [f"{where}: {value!r} is none of {rule['enum']}"]
    found = []
    if isinstance(value, dict):
        known, patterns = rule.get("properties", {}), rule.get("patternProperties", {})
        found += [f"{where}: {key} is missing" for key in rule.get("required", []) if key not in value]
        for key, inner in value.items():
            rules = [known[key]] if key in known else [r for pattern, r in patterns.items() if re.search(pattern, str(key))]
            if not rules and rule.get("additionalProperties", True) is False:
                found.append(f"{where}: unknown key {key}")
            for inner_rule in rules:
                found += faults(inner, inner_rule, whole, f"{where}.{key}")
    if isinstance(value, list):
        if rule.get("uniqueItems") and len({json.dumps(item) for item in value}) < len(value):
            found.append(f"{where}: something twice")
        for number, item in enumerate(value):
            found += faults(item, rule.get("items", {}), whole, f"{where}[{number}]")
    return found


def stages():
    """Stages of the Dockerfile: {name: its lines}, those of the stage it is made of in front."""
    found, name = {}, None
    # A line that goes on is one.
    for line in re.sub(r"\\\n\s*", " ", (COMPOSE / "Dockerfile").read_text()).splitlines():
        begun = re.match(r"FROM (\S+) AS (\S+)", line)
        if begun:
            name = begun[2]
            found[name] = list(found.get(begun[1], []))
        elif name and line and not line.startswith("#"):
            found[name].append(line)
    return found


def seconds(text):
    """A duration of compose or of ours."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]
