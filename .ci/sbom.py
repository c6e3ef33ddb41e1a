#!/usr/bin/env python3
"""SBOM.spdx.json: what is in the shipped binary, as SPDX 2.3.

    .ci/sbom.py [DIRECTORY]           writes it, of the package there; without one, of the service
    .ci/sbom.py --check [DIRECTORY]   fails if it would write something else
    .ci/sbom.py --of=TARGET [DIRECTORY]   prints that of another target, of the same date

From Cargo.lock and cargo's metadata, for the shipped target, without what only tests use. The same
input gives the same bytes: the time is kept for as long as nothing else changes, then it is
SOURCE_DATE_EPOCH or now.
"""

import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib

SHIPPED = "x86_64-unknown-linux-musl"
TARGET = next((word.removeprefix("--of=") for word in sys.argv[1:] if word.startswith("--of=")), SHIPPED)
os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
PACKAGE = next((word for word in sys.argv[1:] if not word.startswith("--")), ".")
FILE = os.path.normpath(f"{PACKAGE}/SBOM.spdx.json")


def read_toml(path):
    with open(path, "rb") as file:
        return tomllib.load(file)


def metadata():
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]
    command += ["--manifest-path", f"{PACKAGE}/Cargo.toml"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def shipped(resolve):
    """Each package that is linked into the binary, with those that it needs; by cargo's ids."""
    nodes = {node["id"]: node for node in resolve["nodes"]}
    found, waiting = {}, [resolve["root"]]
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        needs = nodes[package]["deps"]
        # A kind of None is a normal dependency; the others are of tests and build scripts.
        found[package] = sorted(
            need["pkg"] for need in needs
            if any(kind["kind"] is None for kind in need["dep_kinds"])
        )
        waiting += found[package]
    return found


def spdx_id(name, version):
    return f"SPDXRef-{name.replace('_', '.')}-{version}"


def supplier(package):
    """Who published it, as far as the crate itself says: its first author."""
    for author in package["authors"]:
        match = re.fullmatch(r"(.*?)\s*<(.*)>", author)
        if match:
            return f"Person: {match[1]} ({match[2]})"
        return f"Person: {author}" if "@" in author else f"Organization: {author}"
    owner = re.match(r"https://github\.com/([^/]+)/", package["repository"] or "")
    return f"Organization: {owner[1] if owner else 'crates.io'}"


def crate(package, checksum):
    name, version = package["name"], package["version"]
    # An older way of writing OR.
    licence = package["license"].replace("/", " OR ")
    if checksum is None:
        # The library beside it, of this repository.
        return product(package, None) | {"primaryPackagePurpose": "LIBRARY"}
    return {
        "SPDXID": spdx_id(name, version),
        "name": name,
        "versionInfo": version,
        "supplier": supplier(package),
        "downloadLocation": f"https://crates.io/api/v1/crates/{name}/{version}/download",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": checksum}],
        "licenseConcluded": licence,
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "LIBRARY",
        "externalRefs": [purl(f"pkg:cargo/{name}@{version}")],
    }


def purl(locator):
    return {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": locator,
    }


def product(package, toolchain):
    name, version = package["name"], package["version"]
    by = "Built by `.ci/release " + TARGET + "`" if PACKAGE == "." else f"Built for {TARGET}"
    manifest = os.path.normpath(f"{PACKAGE}/Cargo.toml")
    return {
        "SPDXID": spdx_id(name, version),
        "name": name,
        "versionInfo": version,
        "supplier": "Organization: OpenExec",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": package["license"],
        "licenseDeclared": package["license"],
        "copyrightText": "Copyright (c) The OpenExec authors",
        "primaryPackagePurpose": "APPLICATION",
        "description": package["description"],
        "comment": "Of this repository." if toolchain is None else (
            f"{by} with rustc {toolchain}, profile `release` of "
            f"{manifest}: static-pie, LTO, one codegen unit, overflow checks, panic = unwind."
        ),
        "externalRefs": [purl(f"pkg:cargo/{name}@{version}")],
    }


def standard_library(toolchain):
    return {
        "SPDXID": spdx_id("rust-std", toolchain),
        "name": "rust-std",
        "versionInfo": toolchain,
        "supplier": "Organization: The Rust Project",
        "downloadLocation": "https://github.com/rust-lang/rust",
        "filesAnalyzed": False,
        "licenseConcluded": "MIT OR Apache-2.0",
        "licenseDeclared": "MIT OR Apache-2.0",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "LIBRARY",
        "comment": f"The precompiled library of {TARGET}, with the musl libc that is part of it.",
        "externalRefs": [purl(f"pkg:generic/rust-std@{toolchain}?target={TARGET}")],
    }


def document():
    facts = metadata()
    toolchain = read_toml("rust-toolchain.toml")["toolchain"]["channel"]
    checksums = {
        (package["name"], package["version"]): package.get("checksum")
        for package in read_toml(f"{PACKAGE}/Cargo.lock")["package"]
    }
    by_id = {package["id"]: package for package in facts["packages"]}
    needs = shipped(facts["resolve"])
    root = facts["resolve"]["root"]

    def named(package):
        return by_id[package]["name"], by_id[package]["version"]

    ours = product(by_id[root], toolchain)
    std = standard_library(toolchain)
    crates = [
        crate(by_id[package], checksums[named(package)])
        for package in sorted(needs, key=named) if package != root
    ]
    relationships = [("SPDXRef-DOCUMENT", "DESCRIBES", ours["SPDXID"])]
    for package in sorted(needs, key=named):
        for need in sorted(needs[package], key=named):
            relationships.append((spdx_id(*named(package)), "DEPENDS_ON", spdx_id(*named(need))))
    relationships.append((ours["SPDXID"], "DEPENDS_ON", std["SPDXID"]))
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{ours['name']}-{ours['versionInfo']}",
        "creationInfo": {"creators": ["Organization: OpenExec", "Tool: openexec-sbom"]},
        "comment": f"What is linked into the binary for {TARGET}.",
        "documentDescribes": [ours["SPDXID"]],
        "packages": [ours, *crates, std],
        "relationships": [
            {"spdxElementId": a, "relationshipType": kind, "relatedSpdxElement": b}
            for a, kind, b in relationships
        ],
    }


def dated(value, previous):
    """With a name in the world of its own for each content, and the time of its first writing."""
    content = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    value["documentNamespace"] = f"https://spdx.org/spdxdocs/{value['name']}-{content[:32]}"
    if previous.get("documentNamespace") == value["documentNamespace"]:
        created = previous["creationInfo"]["created"]
    else:
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        now = datetime.datetime.now(datetime.UTC)
        at = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else now
        created = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    value["creationInfo"]["created"] = created
    return value


def main():
    text = ""
    if os.path.exists(FILE):
        with open(FILE, encoding="utf-8") as file:
            text = file.read()
    stored = json.loads(text or "{}")
    made = dated(document(), stored)
    if TARGET != SHIPPED:
        made["creationInfo"]["created"] = stored["creationInfo"]["created"]
    wanted = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    if TARGET != SHIPPED:
        print(wanted, end="")
        return
    if "--check" in sys.argv[1:]:
        if text != wanted:
            sys.exit(f"{FILE} is not what Cargo.lock and Cargo.toml give; run .ci/sbom.py {PACKAGE}")
        print(f"{FILE}: {len(made['packages'])} packages, as Cargo.lock and cargo have them")
        return
    with open(FILE, "w", encoding="utf-8") as file:
        file.write(wanted)


if __name__ == "__main__":
    main()
