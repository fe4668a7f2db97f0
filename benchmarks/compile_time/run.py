"""How long the passes take, and what they add to a compilation.

examples:
  pass time (import to export) of a 32-layer Llama, one process, no ranks:
    .venv/bin/python benchmarks/compile_time/run.py passes --num-layers 32
  compilation with the pass against the same inner backend without it, side by side on 2 ranks, both orders:
    .venv/bin/python benchmarks/compile_time/run.py ratio --num-layers 4 --inner-backend inductor

`passes` prints seconds per step. `ratio` prints seconds from the start of the first forward until every rank has done its
first backward, without and with the pass, per repetition (orders alternate) and as medians, and their ratio; what is loaded
or set up once per process is paid before. cpu_ratio is the same of processor seconds of rank 0 and of the compilers that it
starts: it does not feel what else the machine does, nor that ranks wait for each other. --json FILE writes the same figures.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import torch

HERE = pathlib.Path(__file__).resolve().parent


def make_model(layers: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, use_cache=False,
        )
    )  # fmt: skip


def make_batch(length: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 256, (1, length), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(length)[None].clone()
    return {"input_ids": ids, "labels": ids.clone(), "position_ids": positions, "attention_mask": torch.ones_like(ids)}


def measure_passes(arguments: argparse.Namespace) -> list[dict]:
    """Capture, import, each pass and export of one graph; nothing is compiled."""
    import autosp
    from autosp import collectives, options, partition  # noqa: F401  collectives registers the op that export looks up

    rows: list[dict] = []

    def backend(gm, example_inputs):
        made = partition.make_plan(gm, example_inputs, options.Options.read({}), arguments.sp_size)
        start = time.perf_counter()
        made.graph.export_fx({"sp": "0"})
        for row in made.timings:
            check = row.get("verify_seconds", 0.0)
            rows.append({"step": row["pass"], "seconds": row["seconds"] + check, "nodes": row["nodes"]})
        rows.append({"step": "export", "seconds": time.perf_counter() - start, "nodes": len(made.graph)})
        return gm.forward

    with torch._dynamo.config.patch(specialize_float=True):
        batch = make_batch(arguments.seq_length)
        autosp.prepare_auto_sp_inputs(batch)
        torch.compile(make_model(arguments.num_layers), backend=backend, fullgraph=True)(**batch)
    total = sum(row["seconds"] for row in rows if row["step"] != "capture")
    rows.append({"step": "import to export", "seconds": total, "nodes": rows[-1]["nodes"]})
    return rows


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def first_step(arguments: argparse.Namespace, with_pass: bool, layers: int | None = None) -> tuple[float, float]:
    """Seconds, of the clock and of processors, until all ranks did the first forward and backward of a fresh model: the
    compilation and one tiny step."""
    import autosp

    torch._dynamo.reset()
    batch = make_batch(arguments.seq_length)
    model = make_model(layers or arguments.num_layers)
    if with_pass:
        autosp.prepare_auto_sp_inputs(batch)
        options = {
            "sequence_parallel_size": arguments.sp_size,
            "inner_backend": arguments.inner_backend,
            "collectives": arguments.collectives,
        }
        compiled = torch.compile(model, backend="autosp", options=options, fullgraph=True)
    else:
        for value in batch.values():
            torch._dynamo.mark_dynamic(value, 1)
        compiled = torch.compile(model, backend=arguments.inner_backend, fullgraph=True)
    torch.distributed.barrier()
    start, start_of_processor = time.perf_counter(), processor_seconds()
    compiled(**batch).loss.backward()
    used = processor_seconds() - start_of_processor
    torch.distributed.barrier()  # Ranks wait for each other with the pass; without it the slower one counts as well.
    return time.perf_counter() - start, used


def _compared(without: tuple[float, float], with_pass: tuple[float, float]) -> dict[str, float]:
    ratios = [b / a for a, b in zip(without, with_pass, strict=True)]
    return {"without_s": without[0], "with_s": with_pass[0], "ratio": ratios[0],
            "without_cpu_s": without[1], "with_cpu_s": with_pass[1], "cpu_ratio": ratios[1]}  # fmt: skip


def measure_ratio_on_rank(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    # A cache hit is no compilation.
    torch._inductor.config.force_disable_caches = True
    torch._inductor.config.compile_threads = 1  # Compilers started by this process count among its children.
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    for with_pass in (False, True):
        first_step(arguments, with_pass, layers=1)  # imports and first-use costs, thrown away
    rows = []
    for repetition in range(arguments.repetitions):
        order = (False, True) if repetition % 2 == 0 else (True, False)
        seconds = {with_pass: first_step(arguments, with_pass) for with_pass in order}
        rows.append({"run": "without, with" if order[1] else "with, without", **_compared(seconds[False], seconds[True])})
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0] if name.endswith("_s")}
    without, with_pass = ((middle[f"{side}_s"], middle[f"{side}_cpu_s"]) for side in ("without", "with"))
    rows.append({"run": "median", **_compared(without, with_pass)})
    if torch.distributed.get_rank() == 0:
        for row in rows:
            print("ROW " + json.dumps(row), flush=True)
    torch.distributed.destroy_process_group()


def measure_ratio(arguments: argparse.Namespace) -> list[dict]:
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={arguments.sp_size}", "--standalone"]
    command += [str(HERE / "run.py"), "rank", f"--num-layers={arguments.num_layers}", f"--sp-size={arguments.sp_size}"]
    command += [f"--seq-length={arguments.seq_length}", f"--inner-backend={arguments.inner_backend}"]
    command += [f"--collectives={arguments.collectives}", f"--repetitions={arguments.repetitions}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        rows = [json.loads(line[4:]) for line in process.stdout if line.startswith("ROW ")]
    if process.returncode != 0 or not rows:
        raise SystemExit(f"a rank failed (exit status {process.returncode}); its text is above")
    return rows


def show(rows: list[dict], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)


def main() -> None:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("passes", "ratio", "rank"), help="`rank` is what `ratio` starts per rank")
    parser.add_argument("--num-layers", type=int, default=4)
    parser.add_argument("--seq-length", type=int, default=64)
    parser.add_argument("--sp-size", type=int, default=2)
    parser.add_argument("--inner-backend", default="aot_eager", choices=("inductor", "aot_eager", "eager"))
    parser.add_argument("--collectives", default="auto", choices=("auto", "functional", "fused"))
    parser.add_argument("--repetitions", type=int, default=4, help="of `ratio`, each with and without the pass")
    parser.add_argument("--json", metavar="FILE", help="write the rows here")
    arguments = parser.parse_args()
    if arguments.what == "rank":
        measure_ratio_on_rank(arguments)
        return
    rows = measure_passes(arguments) if arguments.what == "passes" else measure_ratio(arguments)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    show(rows, f"{arguments.what}: Llama, {arguments.num_layers} layers, {arguments.sp_size} ranks")


if __name__ == "__main__":
    main()
