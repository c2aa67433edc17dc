"""Takes recorded answers out of source packages: unpack.py PACKAGES FOLDER writes a file for each body, and index.json.

The index says of each where it came from and what usage objects are in it, as Python's own JSON reader finds them; the
tests of crates/meter hold what they read against that.
"""

import gzip
import json
import re
import sys
import tarfile
import zlib
from pathlib import Path

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def header(headers, name):
    """The first value of a header, whose value may be a list."""
    for key, value in headers.items():
        if key.lower() == name:
            return value[0] if isinstance(value, list) else value
    return None


def content(response):
    """The body as bytes, without its content coding."""
    body = response.get("body") or {}
    body = body.get("string") if isinstance(body, dict) else body
    body = response.get("content") if body is None else body
    body = body.encode() if isinstance(body, str) else body or b""
    if body[:2] == b"\x1f\x8b":
        return gzip.decompress(body)
    if header(response.get("headers") or {}, "content-encoding") == "deflate":
        return zlib.decompress(body)
    return body


def documents(body, is_stream):
    """The JSON documents of a body, with the number of the event that each came in."""
    if not is_stream:
        texts = [body.decode()]
    else:
        events = re.split(r"\n\n", body.decode().replace("\r\n", "\n"))
        lines = [[line[5:].lstrip(" ") for line in event.split("\n") if line.startswith("data:")] for event in events]
        texts = ["\n".join(data) for data in lines]
    for at, text in enumerate(texts):
        try:
            yield at, json.loads(text)
        except ValueError:
            pass


def usages(value, path=""):
    """Every usage object, in the order of the document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            here = f"{path}.{key}" if path else key
            if key in ("usage", "usageMetadata") and isinstance(inner, dict):
                yield here, inner
            else:
                yield from usages(inner, here)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from usages(inner, f"{path}.{at}")


def answers(package):
    """Every recorded answer of a package, with the cassette that it is in."""
    with tarfile.open(package) as archive:
        for member in archive:
            if member.isfile() and "/cassettes/" in member.name and member.name.endswith(".yaml"):
                cassette = yaml.load(archive.extractfile(member).read(), LOADER)
                for at, interaction in enumerate(cassette.get("interactions") or []):
                    yield member.name, at, interaction


def main(packages, folder):
    items, seen = [], set()
    for package in sorted(Path(packages).glob("*.tar.gz")):
        for cassette, at, interaction in answers(package):
            response, body = interaction["response"], content(interaction["response"])
            kind = header(response.get("headers") or {}, "content-type")
            is_stream = (kind or "").startswith("text/event-stream")
            uri = interaction["request"]["uri"]
            if not body or (uri, body) in seen or (kind and not is_stream and "json" not in kind):
                continue
            seen.add((uri, body))
            name = f"{len(items):03}{'.sse' if is_stream else '.json'}"
            Path(folder, name).write_bytes(body)
            found = [
                {"event": event, "path": path, "usage": usage}
                for event, document in documents(body, is_stream)
                for path, usage in usages(document)
            ]
            items.append({
                "file": name, "package": package.name, "path": cassette, "interaction": at,
                "uri": uri, "status": (response.get("status") or {}).get("code"),
                "content_type": kind, "usage_objects": found,
            })
    Path(folder, "index.json").write_text(json.dumps({"items": items}, indent=1))
    print(f"{len(items)} recorded answers")


main(*sys.argv[1:])
