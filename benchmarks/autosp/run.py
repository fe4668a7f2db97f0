"""Trains a language model with its sequence split over ranks, then the same steps on one process, and compares.

examples:
  two ranks on this machine, one step, checked against one process:
    run_autosp.sh --compile autosp --batch-size 1 --seq-length 64 --sp-size 2 --num-layers 1 --steps 1 --deterministic
  20 steps on two replicas of two ranks, DeepSpeed with ZeRO 1, every gradient of the first step compared:
    run_autosp.sh --sp-size 2 --dp-size 2 --zero-stage 1 --steps 20 --gradients --deterministic
  double precision, plain torch.compile:
    run_autosp.sh --engine plain --dtype f64 --optimizer sgd --steps 20 --deterministic
  the hand-written baseline, and DeepSpeed's own pass:
    run_autosp.sh --compile eager --sp-size 4
    run_autosp.sh --compile builtin --sp-size 2 --mask prompt
  a real model at long context on GPUs, what attention returned kept, the rest of a layer computed again:
    run_autosp.sh --model Llama-3.2-1B --dtype bf16 --seq-length 65536 --sp-size 8 --checkpoint sac --no-compare

exit status: 0 the losses agree, 1 they do not or a rank failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import compare  # noqa: E402
import report  # noqa: E402

MODES = ("single", "eager", "compile", "autosp", "builtin")
MASKS = ("full", "none", "left", "right", "prompt", "half", "packed")


def model_names() -> list[str]:
    return sorted(file.stem for file in (HERE / "models").glob("*.json"))


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def make_parser() -> argparse.ArgumentParser:
    summary, examples = __doc__.split("\n\nexamples:", 1)
    parser = argparse.ArgumentParser(
        prog="run_autosp.sh", description=summary, epilog="examples:" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--compile", dest="mode", choices=MODES, default="autosp",
        help="single: one process; eager: Ulysses by hand; compile: that under torch.compile; autosp: this library "
        "(default); builtin: DeepSpeed's own pass")
    add("--model", default="tiny", help=f"{', '.join(model_names())}, or a local Hugging Face folder (default: tiny)")
    add("--num-layers", type=positive, help="overrides the number of layers of the model")
    add("--sp-size", type=positive, dest="sp", help="ranks that share one sequence (default: 2)")
    add("--dp-size", type=positive, dest="dp", default=1, help="replicas, each with its own batches (default: 1)")
    add("--zero-stage", type=int, choices=(0, 1, 2, 3), default=0, help="DeepSpeed's ZeRO stage; 2 and 3 are refused")
    add("--engine", choices=("deepspeed", "plain"), default="deepspeed", help="default: deepspeed")
    add("--seq-length", type=positive, default=64, help="tokens in a sequence (default: 64)")
    add("--batch-size", type=positive, default=1, help="sequences per replica and micro-batch (default: 1)")
    add("--accumulate", metavar="LENGTHS", help="gradient accumulation: one length per micro-batch, like 64,48,63")
    add("--steps", type=positive, default=3, help="optimizer steps, exactly this many (default: 3)")
    add("--mask", choices=MASKS, default="full", help="what the batch carries: full (mask of ones, positions), none, "
        "left or right padding, prompt (5/8 of the labels ignored), half (the last half ignored), packed documents")
    add("--text", help="file to train on (default: the sources of Python's standard library)")
    add("--tokenizer", help="tokenizer.json to cut the text with (default: bytes)")
    add("--dtype", choices=("f32", "f64", "bf16"), default="f32")
    add("--optimizer", choices=("adam", "sgd"), default="adam")
    add("--lr", type=float, help="default: 1e-3 for adam, 1e-2 for sgd")
    add("--inner-backend", choices=("inductor", "aot_eager", "eager"),
        help="what compiles the graph after the pass (default: inductor; aot_eager with --deterministic on a CPU)")
    add("--checkpoint", choices=("none", "full", "sac", "auto"), default="none",
        help="autosp only: what backward computes again (docs/checkpointing.md; default: what the inner backend chooses)")
    add("--memory-budget", metavar="BYTES", help="with --checkpoint auto: like 300000000, '20 GiB' or the fraction 0.5")
    add("--deterministic", action="store_true", help="deterministic kernels, one thread per rank")
    add("--seed", type=int, default=0)
    add("--cpu", action="store_true", help="stay on the CPU although GPUs are there")
    add("--threshold", type=float, help="relative loss difference allowed at the first step; later steps may show 10 "
        "times as much, in f64 1000 times (default: 1e-5 for f32, 1e-12 for f64, 2e-2 for bf16)")
    add("--gradients", action="store_true", help="compare every parameter gradient of the first step too")
    add("--no-compare", action="store_true", help="do not train on one process")
    add("--losses-dir", type=pathlib.Path, help="write rank<N>.csv: step, loss, time, tokens/s, peak memory")
    add("--json", type=pathlib.Path, help="write all that was measured")
    add("--timeout", type=float, default=1800.0, help="seconds for either run (default: 1800)")
    add("--verbose", action="store_true", help="show what the ranks write")
    return parser


def make_spec(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict:
    """All that a rank must know, as plain data; refuses combinations that make no sense."""
    spec = {name: value for name, value in vars(args).items() if name not in ("losses_dir", "json")}
    spec["sp"] = args.sp or (1 if args.mode == "single" else 2)
    if args.mode == "single" and spec["sp"] > 1:
        parser.error("--compile single is one process; leave --sp-size away")
    if args.mode == "single":
        spec["engine"], spec["zero_stage"] = "plain", 0
    if args.mode == "builtin" and args.engine == "plain":
        parser.error("--compile builtin is a part of DeepSpeed; use --engine deepspeed")
    if args.checkpoint != "none" and args.mode != "autosp":
        parser.error(f"--checkpoint belongs to --compile autosp, not to {args.mode}")
    if (args.checkpoint == "auto") != (args.memory_budget is not None):
        parser.error("--memory-budget belongs to --checkpoint auto, and only to it")
    if args.engine == "deepspeed" and args.dtype == "f64" and args.mode != "single":
        parser.error("DeepSpeed keeps no f64 weights; use --engine plain with --dtype f64")
    if args.engine == "plain" and args.zero_stage and args.mode != "single":
        parser.error("ZeRO is a part of DeepSpeed; use --engine deepspeed with --zero-stage")
    try:
        spec["lengths"] = [positive(n) for n in args.accumulate.split(",")] if args.accumulate else [args.seq_length]
    except (ValueError, argparse.ArgumentTypeError):
        parser.error(f"--accumulate takes lengths like 64,48,63, not {args.accumulate!r}")
    for name in ("text", "tokenizer"):
        if spec[name] and not pathlib.Path(spec[name]).is_file():
            parser.error(f"--{name}: no file {spec[name]!r}")
    if not pathlib.Path(args.model).is_dir() and args.model not in model_names():
        parser.error(f"--model: {args.model!r} is neither a folder nor one of {', '.join(model_names())}")
    spec["lr"] = args.lr if args.lr is not None else {"adam": 1e-3, "sgd": 1e-2}[args.optimizer]
    spec["threshold"] = args.threshold if args.threshold is not None else compare.THRESHOLDS[args.dtype]
    if not args.inner_backend:
        gpus = shutil.which("nvidia-smi") is not None and not args.cpu
        spec["inner_backend"] = "aot_eager" if args.deterministic and not gpus else "inductor"
    ranks = spec["sp"] * spec["dp"] if args.mode != "single" else 1
    spec["threads"] = 1 if args.deterministic else max(1, (os.cpu_count() or 1) // ranks)
    return spec


def environment(spec: dict) -> dict[str, str]:
    result = dict(os.environ)
    result.update(OMP_NUM_THREADS=str(spec["threads"]), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if spec["deterministic"]:
        result["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # A source tree that is not installed works as well.
    if importlib.util.find_spec("autosp") is None:
        paths = [str(HERE.parent.parent / "python"), result.get("PYTHONPATH", "")]
        result["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return result


def train(spec: dict, folder: pathlib.Path, role: str, screen: report.Screen) -> tuple[report.Run, bool]:
    """Runs the ranks of one role to their end; (what they told, whether all went well)."""
    single = role == "reference" or spec["mode"] == "single"
    ranks = 1 if single else spec["sp"] * spec["dp"]
    tokens = sum(spec["lengths"]) * spec["batch_size"] * spec["dp"]
    title = "one process, unsharded" if single else f"{ranks} ranks"
    if not single and spec["mode"] != "eager":
        title += ", the first step compiles"
    run = report.Run(title, ranks, tokens)
    log = folder / f"{role}.log"
    # torchrun ends all ranks when one fails.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks),
               str(HERE / "worker.py"), str(folder / "spec.json"), role]
    if single:
        command = [sys.executable, *command[6:]]
    values = environment(spec) | ({"RANK": "0", "WORLD_SIZE": "1"} if single else {})
    with open(log, "w") as output:
        process = subprocess.Popen(command, env=values, start_new_session=True, stderr=subprocess.STDOUT,
                                   stdout=None if spec["verbose"] else output)
        try:
            deadline = _deadline(spec["timeout"])
            screen.watch(run, report.EventReader(folder, role, ranks), lambda: process.poll() is None and deadline())
            if process.poll() is None:
                text = f"the run did not end within {spec['timeout']:g} s (--timeout)"
                run.errors += [(rank, {"type": "TimeoutError", "text": text, "code": ""}) for rank in range(ranks)]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    good = process.returncode == 0 and not run.errors
    if not good:
        screen.errors(run, log)
    return run, good


def _deadline(seconds: float):
    import time

    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(arguments)
    spec = make_spec(parser, args)
    screen = report.Screen()
    screen.title(spec)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="autosp_benchmark_"))
    spec["events"] = str(folder)
    (folder / "spec.json").write_text(json.dumps(spec))
    result: dict = {"spec": spec, "passed": False}
    try:
        sharded, good = train(spec, folder, "sharded", screen)
        result["sharded"] = {"steps": sharded.steps, "errors": [dict(rank=rank, **e) for rank, e in sharded.errors]}
        if args.losses_dir:
            report.write_losses(args.losses_dir, sharded)
        if good and (args.no_compare or args.mode == "single"):
            result["passed"] = True
        elif good:
            reference, good = train(spec, folder, "reference", screen)
            result["reference"] = {"steps": reference.steps}
            if good:
                result["comparison"] = compare.compare(spec, sharded, reference)
                result["passed"] = result["comparison"]["passed"]
                screen.verdict(result["comparison"])
    except KeyboardInterrupt:
        screen.console.print("\ninterrupted")
        good = True
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))
    if good:
        shutil.rmtree(folder, ignore_errors=True)  # the log of a failed run stays, its path was printed
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
