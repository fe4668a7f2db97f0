"""What the user sees: lines per step and rank while they come, then the comparison."""

from __future__ import annotations

import csv
import json
import pathlib
import sys
import time

from rich.console import Console
from rich.table import Table

COLUMNS = ("step", "rank", "loss", "time s", "tokens/s", "peak MiB")


class EventReader:
    """Reads the JSON lines that the ranks write, as they grow."""

    def __init__(self, folder: pathlib.Path, role: str, ranks: int):
        self.files = [folder / f"{role}.{rank}" for rank in range(ranks)]
        self.offsets = [0] * ranks

    def new(self) -> list[tuple[int, dict]]:
        events = []
        for rank, file in enumerate(self.files):
            if not file.exists():
                continue
            with open(file, encoding="utf-8") as stream:
                stream.seek(self.offsets[rank])
                text = stream.read()
            complete = text[: text.rfind("\n") + 1]
            self.offsets[rank] += len(complete.encode())
            events += [(rank, json.loads(line)) for line in complete.splitlines()]
        return events


class Run:
    """What one run (sharded or reference) told: per rank its step events, the first error, the gradients' verdict."""

    def __init__(self, title: str, ranks: int, tokens: int):
        self.title, self.ranks, self.tokens = title, ranks, tokens
        self.starts: dict[int, dict] = {}
        self.steps: list[list[dict]] = [[] for _ in range(ranks)]
        self.errors: list[tuple[int, dict]] = []
        self.gradients: dict[str, float] | None = None

    def add(self, rank: int, event: dict) -> None:
        kind = event["event"]
        if kind == "step":
            self.steps[rank].append(event)
        elif kind == "start":
            self.starts[rank] = event
        elif kind == "error":
            self.errors.append((rank, event))
        elif kind == "gradients":
            self.gradients = event["differences"]


class Screen:
    def __init__(self, quiet: bool = False):
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=not sys.stdout.isatty())
        self.printed = 0

    def title(self, spec: dict) -> None:
        layers = f", {spec['num_layers']} layers" if spec["num_layers"] else ""
        lengths = ",".join(str(length) for length in spec["lengths"])
        self.console.print(
            f"[bold]{spec['mode']}[/]: {spec['model']}{layers}, sp {spec['sp']} x dp {spec['dp']}, "
            f"{spec['engine']}{' ZeRO ' + str(spec['zero_stage']) if spec['engine'] == 'deepspeed' else ''}, "
            f"sequence {lengths}, batch {spec['batch_size']}, mask {spec['mask']}, {spec['dtype']}, "
            f"{spec['optimizer']} lr {spec['lr']:g}, inner backend {spec['inner_backend']}"
        )

    def watch(self, run: Run, reader: EventReader, alive) -> None:
        """Prints what the ranks tell until `alive()` is false."""
        self.printed, begin = 0, time.monotonic()
        widths = (5, 5, 14, 9, 11, 9)
        header = " ".join(name.rjust(width) for name, width in zip(COLUMNS, widths))
        self.console.print(f"\n[bold]{run.title}[/]\n[dim]{header}[/]")
        with self.console.status("starting") as status:
            while True:
                last = not alive()
                for rank, event in reader.new():
                    run.add(rank, event)
                while all(len(steps) > self.printed for steps in run.steps):
                    for rank, steps in enumerate(run.steps):
                        event = steps[self.printed]
                        self.row(widths, event, rank, run.tokens)
                    self.printed += 1
                if last:
                    return
                phase = "starting" if len(run.starts) < run.ranks else "compiling" if not self.printed else "training"
                status.update(f"{phase}, {time.monotonic() - begin:.0f} s")
                time.sleep(0.1)

    def row(self, widths, event: dict, rank: int, tokens: int) -> None:
        cells = (
            str(event["step"] + 1), str(rank), f"{sum(event['losses']) / len(event['losses']):.8f}",
            f"{event['seconds']:.3f}", f"{tokens / event['seconds']:.0f}", f"{event['peak'] / 2**20:.1f}",
        )
        self.console.print(" ".join(cell.rjust(width) for cell, width in zip(cells, widths)))

    def errors(self, run: Run, log: pathlib.Path) -> None:
        # The ranks mostly fail alike: each text once, with the ranks that raised it.
        texts: dict[str, list[int]] = {}
        for rank, event in run.errors:
            text = event["text"] if event["code"] else f"{event['type']}: {event['text']}"
            text = text.split("\n\nSet TORCHDYNAMO_VERBOSE")[0]  # Dynamo's advice to those who debug Dynamo
            texts.setdefault(text, []).append(rank)
        for text, ranks in texts.items():
            which = ", ".join(str(rank) for rank in sorted(ranks))
            self.console.print(f"\n[bold red]rank {which} failed[/]")
            self.console.print(text, markup=False)
        if not texts:
            self.console.print("\n[bold red]a rank ended without a word[/]; the end of the log:")
            self.console.print("\n".join(log.read_text(errors="replace").splitlines()[-30:]), markup=False)
        self.console.print(f"the whole log: {log}", markup=False)

    def verdict(self, comparison: dict) -> None:
        table = Table(title="loss against one process, unsharded", title_justify="left")
        for name in ("rank", "step", "loss", "unsharded", "relative difference", "threshold", ""):
            table.add_column(name, justify="right")
        for row in comparison["rows"]:
            table.add_row(
                str(row["rank"]), str(row["step"]), f"{row['loss']:.10f}", f"{row['reference']:.10f}",
                f"{row['difference']:.3e}", f"{row['threshold']:.0e}", mark(row["passed"]),
            )
        self.console.print()
        self.console.print(table)
        gradients = comparison.get("gradients")
        if gradients:
            self.console.print(
                f"gradients of step 1: {gradients['count']} parameters, worst {gradients['worst']:.3e} relative "
                f"({gradients['name']}), threshold {gradients['threshold']:.0e}: {mark(gradients['passed'])}"
            )
        self.console.print(f"{mark(comparison['passed'])}: worst relative loss difference {comparison['worst']:.3e}")


def mark(passed: bool) -> str:
    return "[green]PASS[/]" if passed else "[bold red]FAIL[/]"


def write_losses(folder: pathlib.Path, run: Run) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for rank, steps in enumerate(run.steps):
        with open(folder / f"rank{rank}.csv", "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["step", "loss", "seconds", "tokens_per_second", "peak_bytes"])
            for event in steps:
                loss = sum(event["losses"]) / len(event["losses"])
                writer.writerow(
                    [event["step"] + 1, repr(loss), f"{event['seconds']:.6f}", f"{run.tokens / event['seconds']:.3f}",
                     event["peak"]]
                )
