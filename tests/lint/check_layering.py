"""Checks which room includes which: the layering of docs/architecture.md, line by line.

A room may include itself and the rooms listed for it; the core includes no torch header; a public header includes no
fmt; no pass includes another pass.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

CHAIN = ["support", "ir", "sharding", "analysis", "pass", "passes"]
ALLOWED = {room: set(CHAIN[: position + 1]) for position, room in enumerate(CHAIN)}
ALLOWED |= {
    "bindings": {*CHAIN, "bindings"},
    "tools": {*CHAIN, "tools"},  # autosp-opt; autosp-run is TORCH_TOOLS
    "interp": {"support", "ir", "interp"},
    "runtime": {"support", "runtime"},
    "frontend": {"support", "ir", "frontend"},
    "autosp.h": {*CHAIN},
}
TORCH_ROOMS = {"interp", "runtime", "frontend"}
TORCH_TOOLS = re.compile(r"src/tools/autosp_run")
TORCH_HEADER = re.compile(r"(torch|ATen|c10|caffe2)/")
INCLUDE = re.compile(r'^\s*#\s*include\s*(<([^>]+)>|"([^"]+)")')


def room_of(path: pathlib.Path) -> str | None:
    """The room of a file of this repository; None for files outside all rooms (tests)."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "passes":
        return "passes"
    if parts[:2] == ("python", "bindings"):
        return "bindings"
    if parts[:2] == ("include", "autosp"):
        return parts[2]
    return parts[1] if parts[0] == "src" else None


def included_file(includer: pathlib.Path, name: str, quoted: bool) -> pathlib.Path | None:
    """The file of this repository that an include line names, if it is one."""
    candidates = [includer.parent] if quoted else []
    candidates += [ROOT / "include", ROOT / "passes", ROOT / "src", ROOT]
    for folder in candidates:
        file = (folder / name).resolve()
        if file.is_file() and file.is_relative_to(ROOT) and ".venv" not in str(file.relative_to(ROOT)):
            return file
    return None


def pass_stems() -> set[str]:
    table = ROOT / "passes" / "passes.def"
    names = re.findall(r'"([a-z0-9-]+)"', table.read_text()) if table.is_file() else []
    return {name.replace("-", "_") for name in names}


def check_include(file: pathlib.Path, room: str, name: str, quoted: bool, passes: set[str]) -> str | None:
    """What is wrong with one include line, or None."""
    relative = str(file.relative_to(ROOT))
    torch_side = room in TORCH_ROOMS or TORCH_TOOLS.match(relative)
    target = included_file(file, name, quoted)
    if target is None:
        if TORCH_HEADER.match(name) and not torch_side:
            return f"the torch-free room '{room}' includes <{name}>: only {', '.join(sorted(TORCH_ROOMS))} may"
        if name.startswith("fmt/") and relative.startswith("include/"):
            return f"a public header includes <{name}>: users of the library would need fmt"
        if name.startswith("autosp/"):
            return f"<{name}> does not exist"
        return None
    other = room_of(target)
    allowed = ALLOWED.get(room, {room}) | (TORCH_ROOMS if TORCH_TOOLS.match(relative) else set())
    if other is not None and other not in allowed:
        return f"room '{room}' includes <{name}> of room '{other}'; it may include {', '.join(sorted(allowed))}"
    if room == other == "passes" and {file.stem, target.stem} <= passes and file.stem != target.stem:
        return f"pass {file.stem} includes pass {target.stem}: put what both need into a room below, or an analysis"
    return None


def main() -> int:
    passes = pass_stems()
    folders = [ROOT / top for top in ("include", "src", "passes", "python")]
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in {".h", ".cpp"})
    found = 0
    for file in files:
        room = room_of(file)
        if room is None:
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            problem = match and check_include(file, room, match[2] or match[3], match[3] is not None, passes)
            if problem:
                found += 1
                print(f"{file.relative_to(ROOT)}:{number}: {problem}")
    print(f"layering: {len(files)} files, {found} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
