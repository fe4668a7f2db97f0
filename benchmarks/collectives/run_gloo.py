"""torchrun --nproc-per-node P run_gloo.py: Communicator::AllToAll over gloo against torch.distributed.all_to_all_single.

Side by side in one run, in both orders; both write a fresh tensor. Build the target autosp_bench_c10d first.
"""

from __future__ import annotations

import ctypes
import pathlib
import statistics
import sys
import time

import torch
import torch.distributed as dist

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

from autosp import rt  # noqa: E402


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rt.load()
    bench = ctypes.CDLL(str(rt.library_path().with_name("libautosp_bench_c10d.so")))
    ranks, group = dist.get_world_size(), dist.group.WORLD.group_name.encode()
    if dist.get_rank() == 0:
        print(f"all-to-all over gloo, {ranks} ranks; bytes of one rank's operand")
        print(f"{'bytes':>12} {'torch us':>12} {'autosp us':>12} {'GB/s':>10} {'ratio':>8} {'fastest tenth':>14}")
    for bytes_ in (1 << power for power in range(10, 26, 2)):
        x = torch.ones(ranks, bytes_ // ranks, dtype=torch.uint8)
        assert bench.bench_prepare(group, ctypes.c_int64(bytes_)) == 0
        calls = (lambda: dist.all_to_all_single(torch.empty_like(x), x), bench.bench_call)
        times: tuple[list[float], list[float]] = ([], [])
        for repeat in range(-4, min(600, max(60, (1 << 28) // bytes_))):
            for which in (0, 1) if repeat % 2 == 0 else (1, 0):
                dist.barrier()
                start = time.perf_counter()
                calls[which]()
                if repeat >= 0:
                    times[which].append(time.perf_counter() - start)
        plain, ours = map(statistics.median, times)
        plain_fast, ours_fast = (statistics.quantiles(each, n=10)[0] for each in times)
        if dist.get_rank() == 0:
            print(f"{bytes_:12} {plain * 1e6:12.1f} {ours * 1e6:12.1f} {bytes_ / ours * 1e-9:10.2f} {ours / plain:8.3f}"
                  f" {ours_fast / plain_fast:14.3f}")
    bench.bench_release()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
