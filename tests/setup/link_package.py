"""Registers the Python package of this checkout in an environment, as an editable install does.

`pip install -e` would run the CMake build a second time, in a directory of its own. What it leaves behind is all that is
needed: a .pth file that puts python/ on the path, and a dist-info folder, by which torch finds the entry point `autosp`
in the group `torch_dynamo_backends` and pip knows how to uninstall.

  link_package.py                      into the environment of this interpreter
  link_package.py --dist-info-in DIR   the dist-info folder only, into DIR, for use through PYTHONPATH
"""
import argparse
import pathlib
import shutil
import sys
import sysconfig

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

PYTHON_DIR = pathlib.Path(__file__).resolve().parents[2] / "python"


def write_dist_info(site: pathlib.Path, project: dict) -> pathlib.Path:
    name, version = project["name"], project["version"]
    for old in site.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {project['description']}\n"
    )
    (folder / "INSTALLER").write_text("autosp\n")
    entry_points = []
    for group, entries in project["entry-points"].items():
        entry_points += [f"[{group}]"] + [f"{key} = {value}" for key, value in entries.items()] + [""]
    (folder / "entry_points.txt").write_text("\n".join(entry_points))
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dist-info-in", type=pathlib.Path, metavar="DIR")
    arguments = parser.parse_args()
    project = tomllib.loads((PYTHON_DIR / "pyproject.toml").read_text())["project"]
    if arguments.dist_info_in:
        write_dist_info(arguments.dist_info_in, project)
        return 0
    site = pathlib.Path(sysconfig.get_path("purelib"))
    folder = write_dist_info(site, project)
    (site / "autosp.pth").write_text(f"{PYTHON_DIR}\n")
    files = ["autosp.pth"] + [f"{folder.name}/{file.name}" for file in sorted(folder.iterdir())]
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files + [f"{folder.name}/RECORD"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
