"""One rank, started by run.py as `worker.py SPEC.json ROLE`. It tells what happens as JSON lines, in a file of its own.

ROLE `sharded` trains in the mode of the spec on this rank; `reference` trains the same steps unsharded: every replica's
batch one after the other, each loss divided by the number of replicas, which is the average that the engines take.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


class Events:
    def __init__(self, file: pathlib.Path):
        self.stream = open(file, "w", encoding="utf-8", buffering=1)

    def __call__(self, event: str, **fields) -> None:
        self.stream.write(json.dumps({"event": event, **fields}) + "\n")


def choose_device(spec: dict, ranks: int) -> str:
    import torch

    return "cuda" if torch.cuda.device_count() >= ranks and not spec["cpu"] else "cpu"


def prepare_torch(spec: dict) -> None:
    import torch

    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    if spec["deterministic"]:
        torch.use_deterministic_algorithms(True)
    torch.manual_seed(spec["seed"])


def train(spec: dict, role: str, rank: int, events: Events) -> None:
    import torch

    # The reference stands on the same device as the run that it judges.
    spec["device"] = choose_device(spec, spec["sp"] * spec["dp"])
    os.environ["DS_ACCELERATOR"] = spec["device"]
    prepare_torch(spec)
    import data
    import modes
    from autosp import memory

    reference = role == "reference"
    device = modes.initialize_process_group(spec) if not reference else torch.device(spec["device"])
    # Around all, so that parameters and optimizer states count too.
    meter = memory.PeakMemory(device).__enter__()
    mode = "single" if reference else spec["mode"]
    replicas = list(range(spec["dp"])) if mode == "single" else [rank // spec["sp"]]
    engine, prepare, finish = modes.MODES[mode](spec, device)
    text = data.TextData(spec, engine.model.config.vocab_size)
    events("start", device=str(device), parameters=sum(p.numel() for p in engine.model.parameters()),
           replicas=replicas)
    for step in range(spec["steps"]):
        micros = [[text.batch(step, micro, replica) for micro in range(len(spec["lengths"]))] for replica in replicas]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        losses = [[] for _ in replicas]
        for index, batches in enumerate(micros):
            for batch in batches:
                moved = {name: None if value is None else value.to(device) for name, value in batch.items()}
                loss = finish(engine.forward(**prepare(moved)))
                engine.backward(loss, 1.0 / (len(replicas) * len(batches)))
                losses[index].append(loss.detach())
        engine.average()
        if step == 0 and spec["gradients"] and rank == 0:
            torch.save(engine.gradients(), pathlib.Path(spec["events"]) / f"{role}.gradients")
        elif step == 0 and spec["gradients"]:
            engine.gradients()  # under ZeRO the ranks assemble a gradient together
        engine.step()
        values = [[float(loss) for loss in replica] for replica in losses]
        events("step", step=step, seconds=time.perf_counter() - start, peak=meter.peak_bytes,
               losses=[sum(replica) / len(replica) for replica in values], micro_losses=values)


def gradient_differences(spec: dict) -> dict[str, float]:
    """|g - g0| / |g0| for every parameter, by the norm; a parameter that one side lacks is infinitely far."""
    import torch

    folder = pathlib.Path(spec["events"])
    truth, found = (torch.load(folder / f"{role}.gradients") for role in ("reference", "sharded"))
    # DeepSpeed and torch.compile may prefix names; the model under them is the same.
    differences = {}
    for name, gradient in truth.items():
        other = found.get(name)
        if other is None:
            differences[name] = float("inf")
            continue
        norm = float(gradient.double().norm())
        distance = float((gradient.double() - other.double()).norm())
        differences[name] = distance / norm if norm else distance
    return differences


def main() -> int:
    spec, role = json.loads(pathlib.Path(sys.argv[1]).read_text()), sys.argv[2]
    rank = int(os.environ.get("RANK", 0))
    events = Events(pathlib.Path(spec["events"]) / f"{role}.{rank}")
    status = 0
    try:
        train(spec, role, rank, events)
        if role == "reference" and spec["gradients"]:
            events("gradients", differences=gradient_differences(spec))
        events("done")
    except Exception as error:  # noqa: BLE001: the parent prints it
        traceback.print_exc()
        root = error
        while not hasattr(root, "diagnostics") and root.__cause__ is not None:
            root = root.__cause__
        events("error", type=type(root).__name__, text=str(root), code=str(getattr(root, "code", "")))
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Not a normal exit: tearing down a process group whose peers are gone can block for minutes.
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
