"""Checks the shape of the repository: what lies at the top level, no paths of one machine, no scratch marks in code."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOP_LEVEL = set("CMakeLists.txt include src passes python tests benchmarks docs README.md LICENSE".split())
# A rule, and the text that a line must not contain.
FORBIDDEN = [
    ("a path of one machine", re.compile(r"(?<![\w.])/(?:work|root|home)/\w")),
    ("a mark of unfinished work", re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\))")),
    ("a merge conflict", re.compile(r"^(?:<{7}|>{7}) ")),
]
TEXT = {".h", ".cpp", ".def", ".py", ".sh", ".txt", ".cmake", ".md", ".toml", ".in", ".aspir"}


def project_files() -> list[pathlib.Path]:
    try:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []  # an exported tree without git
    return sorted(ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file())


def main() -> int:
    problems = []
    files = project_files()
    for entry in sorted({file.relative_to(ROOT).parts[0] for file in files}):
        if not entry.startswith(".") and entry not in TOP_LEVEL:
            problems.append(f"{entry}: not one of the top-level entries {', '.join(sorted(TOP_LEVEL))}")
    for file in files:
        if file.suffix not in TEXT or file == pathlib.Path(__file__).resolve():
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            problems += [f"{file.relative_to(ROOT)}:{number}: {what}" for what, text in FORBIDDEN if text.search(line)]
    print("\n".join(problems + [f"tree: {len(files)} files, {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    # Every check is called with the build directory; this one has no use for it.
    sys.exit(main())
