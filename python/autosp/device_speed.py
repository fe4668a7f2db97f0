"""How fast this device is: the description that the checkpoint planner weighs costs with, measured once and cached.

    python -m autosp.device_speed                                   the CPU, or the first GPU
    python -m autosp.device_speed --device cpu --output mine.txt    write the description to a file
    torchrun --nproc-per-node 2 -m autosp.device_speed              the link between the ranks too

What it prints is what `device=` takes (docs/checkpointing.md): rates per second, bytes, seconds. device="measured" uses the
cached description of the device that a model is on, and measures it when there is none. Without ranks the link is not
measured: a tenth of the memory's bandwidth stands for it.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from autosp import groups
from autosp.errors import make_error

_REPETITIONS = 5


def resolve(given: str, device: torch.device, group: groups.Group | None = None, deadline_s: float = 600.0) -> str:
    """The value of an option `device` as the planner takes it: files are read, "measured" is looked up or measured.

    With a group its first rank decides for all: ranks that weigh differently plan differently.
    """
    if "/" in given or given.startswith("~") or ("." in given and "=" not in given):
        return _read(pathlib.Path(given).expanduser())
    if given != "measured":
        return given
    if group is None or group.size == 1:
        return cached(device)
    return groups.share(group, "device description", lambda: cached(device), deadline_s)


def _read(path: pathlib.Path) -> str:
    try:
        return " ".join(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise make_error("kFile", f'cannot read the device description "{path}": {reason}') from error


def cached(device: torch.device) -> str:
    """The description in the user's cache; measured and put there first when there is none."""
    path = cache_path(device)
    if path.is_file():
        return _read(path)
    text = measure(device)
    write(path, text)
    return text


def write(path: pathlib.Path, text: str) -> None:
    """Whole or not at all: other processes may read or write the same file."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise make_error("kFile", f'cannot write the device description "{path}": {error.strerror}') from error


def cache_path(device: torch.device) -> pathlib.Path:
    """One file per device model, number of threads and torch version."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    version = torch.__version__.split("+")[0]
    return pathlib.Path(root) / "autosp" / f"device-{_name(device)}-torch-{version}.txt"


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        text = torch.cuda.get_device_name(device)
    else:
        text = f"cpu-{platform.machine()}-{torch.get_num_threads()}-threads"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def measure(device: torch.device, process_group: Any = None) -> str:
    """Measures: takes a few seconds. All ranks of `process_group` must call; rates are the best of several runs."""
    gpu = device.type == "cuda"
    with torch.no_grad():
        matrix = 8192 if gpu else 1024
        low, single = (_matmul_rate(matrix, dtype, device) for dtype in (torch.bfloat16, torch.float32))
        source = torch.zeros(2**28 if gpu else 2**26, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        bandwidth = 2 * source.numel() / _seconds(lambda: target.copy_(source), device)  # Each byte is read and written.
        small = torch.zeros(1, device=device)
        count = 1000
        launch = _seconds(lambda: [small.add_(1) for _ in range(count)], device) / count
        link = bandwidth / 10 if process_group is None else _link_rate(device, process_group)
    memory = torch.cuda.get_device_properties(device).total_memory if gpu else _host_memory()
    rates = {
        "flops_low": low, "flops_f32": single, "memory_bandwidth": bandwidth, "link_bandwidth": link,
        "memory": memory, "launch": launch,
    }  # fmt: skip
    return " ".join([f"name={_name(device)}", *(f"{key}={value:.3e}" for key, value in rates.items())])


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The fastest of several runs, after one that is thrown away."""
    best = float("inf")
    for repetition in range(_REPETITIONS + 1):
        _synchronize(device)
        start = time.perf_counter()
        work()
        _synchronize(device)
        if repetition:
            best = min(best, time.perf_counter() - start)
    return best


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _matmul_rate(size: int, dtype: torch.dtype, device: torch.device) -> float:
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: left @ right, device)


def _link_rate(device: torch.device, process_group: Any) -> float:
    """Bytes per second that one rank sends to the others while all exchange."""
    size = torch.distributed.get_world_size(process_group)
    sent = torch.zeros(2**24 // size * size, dtype=torch.uint8, device=device)
    received = torch.empty_like(sent)

    def exchange() -> None:
        torch.distributed.all_to_all_single(received, sent, group=process_group)

    return sent.numel() * (size - 1) / size / _seconds(exchange, device)


def _host_memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def main(arguments: list[str] | None = None) -> int:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m autosp.device_speed", description=summary, epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--output", type=pathlib.Path, help="file to write (default: the cache that device=measured reads)")
    args = parser.parse_args(arguments)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    ranks, process_group = int(os.environ.get("WORLD_SIZE", 1)), None
    if ranks > 1:
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        process_group = torch.distributed.group.WORLD
    text = measure(device, process_group)
    if process_group is None or torch.distributed.get_rank() == 0:
        path = args.output or cache_path(device)
        write(path, text)
        print(text)
        print(f"written to {path}", file=sys.stderr)
    if process_group is not None:
        torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
