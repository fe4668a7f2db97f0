"""Runs clang-tidy on the torch-free sources, each file only when it, a header it includes, or the settings changed.

A clean result is remembered in .cache/tidy as an empty file named by the hash of everything that went into it; a file
with findings is examined again each time. Headers are covered through the sources that include them.
"""
import argparse
import concurrent.futures
import hashlib
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "tidy"
INCLUDE = re.compile(rb'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
# Torch's headers take clang a minute per file; the plain compiler's warnings have to do there.
SOURCES = re.compile(r"^(src/(support|ir|sharding|analysis|pass)/|passes/|src/tools/autosp_opt)")
FINDING = re.compile(r"^(?=/\S+:\d+:\d+: (?:error|warning))", re.MULTILINE)
NOISE = re.compile(r"^(?:\d+ warnings?.* generated|\d+ warnings treated as|Suppressed |Use -header-filter).*\n", re.MULTILINE)


class Sources:
    """Hashes of files together with all headers of this project that they reach."""

    def __init__(self):
        self._includes: dict[pathlib.Path, list[pathlib.Path]] = {}

    def _direct(self, file: pathlib.Path) -> list[pathlib.Path]:
        if file not in self._includes:
            found = []
            for name in INCLUDE.findall(file.read_bytes()):
                for folder in (file.parent, ROOT / "include", ROOT / "passes", ROOT / "src", ROOT):
                    candidate = folder / name.decode()
                    if candidate.is_file():
                        found.append(candidate.resolve())
                        break
            self._includes[file] = found
        return self._includes[file]

    def reach(self, file: pathlib.Path) -> list[pathlib.Path]:
        seen, queue = {file}, [file]
        while queue:
            for header in self._direct(queue.pop()):
                if header not in seen:
                    seen.add(header)
                    queue.append(header)
        return sorted(seen)


def entries(build: pathlib.Path) -> dict[pathlib.Path, str]:
    """The compile command of every torch-free source of this project."""
    commands = json.loads((build / "compile_commands.json").read_text())
    found = {}
    for entry in commands:
        file = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if file.is_relative_to(ROOT) and SOURCES.match(str(file.relative_to(ROOT))):
            found[file] = entry.get("command") or " ".join(entry["arguments"])
    return dict(sorted(found.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="directory with compile_commands.json")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout
    common = hashlib.sha256(version.encode() + (ROOT / ".clang-tidy").read_bytes()).digest()
    sources, stale = Sources(), {}
    commands = entries(arguments.build)
    CACHE.mkdir(parents=True, exist_ok=True)
    for file, command in commands.items():
        digest = hashlib.sha256(common + command.replace(str(arguments.build), "").encode())
        for part in sources.reach(file):
            digest.update(str(part.relative_to(ROOT)).encode() + b"\0" + part.read_bytes())
        mark = CACHE / digest.hexdigest()
        if not mark.exists():
            stale[file] = mark

    def tidy(file: pathlib.Path) -> tuple[pathlib.Path, bool, str]:
        # -Werror and flags that only g++ knows must not turn clang's own opinion of a warning into a failure.
        command = ["clang-tidy", "-p", str(arguments.build), "--quiet", "--extra-arg=-Wno-everything", str(file)]
        result = subprocess.run(command, capture_output=True, text=True)
        return file, result.returncode == 0, result.stdout + ("" if result.returncode == 0 else result.stderr)

    failed = 0
    printed: set[str] = set()  # a finding in a header comes once per source that includes it
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for done, (file, clean, output) in enumerate(pool.map(tidy, stale), 1):
            print(f"[{done}/{len(stale)}] clang-tidy {file.relative_to(ROOT)}{'' if clean else ': FAILED'}", flush=True)
            if clean:
                stale[file].touch()
            else:
                failed += 1
                findings = [finding for finding in FINDING.split(NOISE.sub("", output)) if finding not in printed]
                printed.update(findings)
                print("".join(findings), end="", flush=True)
    print(f"clang-tidy: {len(commands)} files, {len(stale)} examined, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
