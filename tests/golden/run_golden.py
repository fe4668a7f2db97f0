#!/usr/bin/env python3
"""Runs golden tests: each .aspir file holds a command, a graph and the whole output that is expected.

    // RUN: --passes=eliminate-dead-nodes --ranks=4
    graph @g(...) ... { ... }
    // ----- expected                     (or: // ----- expected error)
    graph @g(...) ... { ... }

The graph is given to autosp-opt on standard input. `expected` is all of standard output, with exit status 0 and nothing on
standard error; `expected error` is all of standard error, with exit status 1. A fresh file may end after the graph: --bless
writes the section. Never bless what you cannot explain.
"""
import argparse
import difflib
import pathlib
import shlex
import subprocess
import sys

RUN = "// RUN:"
EXPECTED = "// ----- expected"
EXPECTED_ERROR = "// ----- expected error"


def split(text: str) -> tuple[list[str], str, str, str]:
    """Flags, the text up to the expectation, its heading ("" when there is none), the expectation."""
    lines = text.splitlines(keepends=True)
    if not lines or not lines[0].startswith(RUN):
        raise ValueError(f'the first line must start with "{RUN}"')
    flags = shlex.split(lines[0][len(RUN):])
    headings = [i for i, line in enumerate(lines) if line.startswith("// -----")]
    if not headings:
        return flags, text, "", ""
    if len(headings) > 1:
        raise ValueError(f"line {headings[1] + 1}: a second heading")
    at = headings[0]
    heading = lines[at].rstrip()
    if heading not in (EXPECTED, EXPECTED_ERROR):
        raise ValueError(f'line {at + 1}: "{heading}", expected "{EXPECTED}" or "{EXPECTED_ERROR}"')
    return flags, "".join(lines[:at]), heading, "".join(lines[at + 1:])


def run(tool: str, flags: list[str], text: str, directory: pathlib.Path) -> tuple[str, str, str]:
    """Heading and section that the tool's behaviour calls for, and what is wrong in any case."""
    done = subprocess.run([tool, "-", *flags], input=text, capture_output=True, text=True, cwd=directory, timeout=60)
    if done.returncode not in (0, 1):
        return "", "", f"exit status {done.returncode}\n{done.stderr}"
    if done.returncode == 1 and done.stdout:
        return "", "", f"a failure with text on standard output:\n{done.stdout}"
    if done.returncode == 0 and done.stderr:
        return "", "", f"a success with text on standard error:\n{done.stderr}"
    return (EXPECTED, done.stdout, "") if done.returncode == 0 else (EXPECTED_ERROR, done.stderr, "")


def check(tool: str, file: pathlib.Path, bless: bool) -> str:
    """Empty when the file passes, else what is wrong."""
    text = file.read_text(encoding="utf-8")
    try:
        flags, source, heading, expected = split(text)
    except ValueError as error:
        return str(error)
    got_heading, got, problem = run(tool, flags, source, file.parent)
    if problem:
        return problem
    if (heading, expected) == (got_heading, got):
        return ""
    if bless:
        if not source.endswith("\n"):
            source += "\n"
        file.write_text(f"{source}{got_heading}\n{got}", encoding="utf-8")
        print(f"blessed {file}")
        return ""
    if not heading:
        return "no expectation; look at the output and run with --bless"
    return "".join(difflib.unified_diff([heading + "\n", *expected.splitlines(keepends=True)],
                                        [got_heading + "\n", *got.splitlines(keepends=True)], "expected", "got"))


def check_coverage(tool: str, root: pathlib.Path) -> int:
    """Exit status 1 when a pass has no folder of golden files under `root`."""
    listing = subprocess.run([tool, "--list-passes"], capture_output=True, text=True, check=True, timeout=60).stdout
    folders = [line.split()[0].replace("-", "_") for line in listing.splitlines()]
    missing = [folder for folder in folders if not any((root / folder).glob("*.aspir"))]
    for folder in missing:
        print(f"{root / folder}: a pass without golden files", file=sys.stderr)
    return 1 if missing else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True, help="path of autosp-opt")
    parser.add_argument("--bless", action="store_true", help="write what the tool prints as the expectation")
    parser.add_argument("--coverage", action="store_true", help="only check that every pass has a folder with files")
    parser.add_argument("paths", nargs="+", type=pathlib.Path, help=".aspir files or folders of them")
    arguments = parser.parse_args()
    if arguments.coverage:
        return max(check_coverage(arguments.tool, path) for path in arguments.paths)
    failed = 0
    total = 0
    for path in arguments.paths:
        files = sorted(path.rglob("*.aspir")) if path.is_dir() else [path]
        if not files:
            print(f"{path}: no .aspir file", file=sys.stderr)
            failed += 1
        for file in files:
            total += 1
            problem = check(str(pathlib.Path(arguments.tool).resolve()), file, arguments.bless)
            if problem:
                failed += 1
                print(f"FAIL {file}\n{problem}", file=sys.stderr)
    print(f"{total - failed if total else 0} of {total} golden files pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
