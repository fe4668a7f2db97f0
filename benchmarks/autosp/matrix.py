"""Runs run.py over a matrix of settings and prints one table; see correctness.sh."""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

from rich.console import Console
from rich.table import Table

HERE = pathlib.Path(__file__).resolve().parent
# The masks that DeepSpeed's own pass is shown with: the ordinary batch, and ordinary prompt masking.
BUILTIN_MASKS = ("full", "prompt")
COLUMNS = ("mode", "sp,dp", "engine", "mask", "loss, step 1", "unsharded", "step 1", "worst step", "gradients", "")


def configuration(text: str) -> tuple[int, int]:
    try:
        sp, dp = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not sp,dp like 2,1") from None
    if sp < 1 or dp < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: both numbers must be at least 1")
    return sp, dp


def cases(args: argparse.Namespace) -> list[dict]:
    rows = []
    for sp, dp in args.configurations:
        for stage in (0, 1):
            rows.append({"mode": "autosp", "engine": "deepspeed", "sp": sp, "dp": dp, "stage": stage})
        rows.append({"mode": "autosp", "engine": "plain", "sp": sp, "dp": dp, "stage": 0})
    if not args.no_builtin:
        rows += [{"mode": "builtin", "engine": "deepspeed", "sp": 2, "dp": 1, "stage": 0, "mask": mask}
                 for mask in BUILTIN_MASKS]
    return rows


def run_case(case: dict, args: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory(prefix="autosp_matrix_") as folder:
        answer = pathlib.Path(folder) / "answer.json"
        command = [
            sys.executable, str(HERE / "run.py"), "--compile", case["mode"], "--engine", case["engine"],
            "--sp-size", str(case["sp"]), "--dp-size", str(case["dp"]), "--zero-stage", str(case["stage"]),
            "--steps", str(args.steps), "--deterministic", "--gradients", "--json", str(answer), *args.extra,
        ]
        if "mask" in case:
            command += ["--mask", case["mask"]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not answer.exists():
            return {"passed": False, "output": done.stdout}
        return {**json.loads(answer.read_text()), "output": done.stdout}


def short_error(result: dict) -> str:
    errors = result.get("sharded", {}).get("errors") or []
    text = errors[0]["text"] if errors else result["output"].strip()
    return (text.splitlines() or ["no answer"])[0][:60]


def number(value: float) -> str:
    return "not finite" if not math.isfinite(value) else f"{value:.2e}"


def add_row(table: Table, case: dict, result: dict) -> None:
    spec, comparison = result.get("spec", {}), result.get("comparison")
    engine = f"ZeRO {case['stage']}" if case["engine"] == "deepspeed" else "plain"
    cells = [case["mode"], f"{case['sp']},{case['dp']}", engine, case.get("mask") or spec.get("mask", "")]
    if comparison:
        # The first rank with the worst first step: under DeepSpeed's own pass the ranks report different losses.
        first = max((row for row in comparison["rows"] if row["step"] == 1), key=lambda row: row["difference"])
        cells += [f"{first['loss']:.7f}", f"{first['reference']:.7f}", number(comparison["first"]),
                  number(comparison["worst"]), number(comparison["gradients"]["worst"])]
    else:
        cells += [short_error(result), "", "", "", ""]
    table.add_row(*cells, "[green]PASS[/]" if result["passed"] else "[bold red]FAIL[/]")


def main() -> int:
    parser = argparse.ArgumentParser(prog="correctness.sh", description=__doc__)
    parser.add_argument("configurations", nargs="*", type=configuration, metavar="sp,dp",
                        default=[(2, 1), (4, 1), (2, 2)], help="default: 2,1 4,1 2,2")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--no-builtin", action="store_true", help="leave DeepSpeed's own pass away")
    parser.add_argument("--json", type=pathlib.Path, default=HERE.parents[1] / "build" / "correctness.json",
                        help="all figures (default: build/correctness.json)")
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:cut])
    args.extra = arguments[cut + 1 :]  # for run.py

    console = Console(highlight=False)
    console.width = max(console.width, 108)  # a table whose figures are cut off says nothing
    table = Table(title=f"{args.steps} steps, relative differences from one process", title_justify="left",
                  padding=(0, 1), collapse_padding=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=name != "loss, step 1")
    results, good = [], True
    todo = cases(args)
    for index, case in enumerate(todo):
        name = f"{case['mode']} sp {case['sp']} dp {case['dp']} {case['engine']} ZeRO {case['stage']}"
        with console.status(f"{index + 1} of {len(todo)}: {name}"):
            result = run_case(case, args)
        verdict = "PASS" if result["passed"] else "FAIL"
        console.print(f"{index + 1} of {len(todo)}: {name} {case.get('mask', '')}: {verdict}")
        if not result["passed"] and case["mode"] == "autosp":
            good = False
            console.print(result["output"], markup=False)
        add_row(table, case, result)
        results.append({"case": case, **{key: value for key, value in result.items() if key != "output"}})
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(results, indent=1))
    console.print(table)
    console.print(f"figures: {args.json}", markup=False)
    if not args.no_builtin:
        console.print("builtin is DeepSpeed's own pass; its failures are expected and do not count", markup=False)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
