"""docs/openapi.yaml, read and checked with the standard library alone.

Reads the part of YAML that the file uses: block mappings and lists, plain and quoted scalars, flow
lists of plain scalars, folded text. Anything else is an error, so that nothing is misread.
"""
from __future__ import annotations

import json
import re


class Yaml:
    def __init__(self, text: str):
        self.lines = [(len(line) - len(line.lstrip()), line.strip()) for line in text.splitlines()
                      if line.strip() and not line.strip().startswith("#")]
        self.at = 0

    def read(self, indent: int = 0):
        if self.lines[self.at][1].startswith("- "):
            return self.read_list(indent)
        out = {}
        while self.at < len(self.lines) and self.lines[self.at][0] == indent:
            text = self.lines[self.at][1]
            match = re.fullmatch(r"('[^']*'|[^\s'\"][^:]*|\$ref):(?: (.*))?", text)
            if match is None:
                raise ValueError(f"not a mapping entry: {text}")
            key, value = match.group(1).strip("'"), match.group(2)
            if key in out:
                raise ValueError(f"{key} occurs twice")
            self.at += 1
            out[key] = self.value(value, indent)
        return out

    def value(self, text: str | None, indent: int):
        if text is None:
            return self.read(self.lines[self.at][0])
        if text == ">-":
            words = []
            while self.at < len(self.lines) and self.lines[self.at][0] > indent:
                words.append(self.lines[self.at][1])
                self.at += 1
            return " ".join(words)
        if text.startswith("["):
            return [word.strip() for word in text[1:-1].split(",")]
        if text.startswith("'"):
            return text[1:-1]
        return {"true": True, "false": False}.get(text, text)

    def read_list(self, indent: int):
        out = []
        while self.at < len(self.lines) and self.lines[self.at][0] == indent and \
                self.lines[self.at][1].startswith("- "):
            self.lines[self.at] = (indent + 2, self.lines[self.at][1][2:])
            out.append(self.read(indent + 2))
        return out


class Description:
    """The file, its references followed."""

    def __init__(self, text: str):
        self.document = Yaml(text).read()

    def follow(self, node):
        while isinstance(node, dict) and "$ref" in node:
            at = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            node = at
        return node

    def operations(self) -> dict[tuple[str, str], dict]:
        return {(method.upper(), path): operation
                for path, methods in self.document["paths"].items()
                for method, operation in methods.items()}

    def faults(self, method: str, path: str, status: int, media_type: str, body: bytes):
        """What an answer has that its description lacks, and the other way round."""
        responses = self.operations()[method, path]["responses"]
        answer = self.follow(responses.get(str(status), responses["default"]))
        if str(status) not in responses and status < 400:
            yield f"status {status} is not described"
        content = answer.get("content", {})
        kind = media_type.split(";")[0]
        if not content:
            if body:
                yield f"a body of {len(body)} bytes where none is described"
            return
        if kind not in content:
            yield f"{kind or 'no media type'} is not described"
        elif kind.endswith("json"):
            yield from self.wrong("", json.loads(body), content[kind]["schema"])

    def wrong(self, at: str, value, schema):
        schema = self.follow(schema)
        types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
        expected = types[schema["type"]]
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            yield f"{at}: not {schema['type']}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{at}: {value} is not one of {schema['enum']}"
        if expected is list and "items" in schema:
            for i, item in enumerate(value):
                yield from self.wrong(f"{at}[{i}]", item, schema["items"])
        if expected is not dict:
            return
        properties = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                yield f"{at}.{name}: absent"
        for name, member in value.items():
            if name in properties:
                yield from self.wrong(f"{at}.{name}", member, properties[name])
            elif schema.get("additionalProperties") is False:
                yield f"{at}.{name}: not described"
