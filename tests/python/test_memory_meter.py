"""autosp.memory.PeakMemory: what the CPU allocator hook counts, byte by byte, and that it disturbs no tensor."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest
import torch
from autosp import rt
from autosp.errors import AutoSPError
from autosp.memory import PeakMemory

if not rt.library_path().exists():
    pytest.skip("the autosp_rt ops are not built for this torch", allow_module_level=True)

KIB = 1024


def block(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def always_stopped():
    gc.collect()
    yield
    assert not PeakMemory._open


# --- what counts ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000, KIB, 3 * KIB * KIB + 5])
def test_a_tensor_counts_its_bytes(size):
    with PeakMemory() as meter:
        x = block(size)
        assert (meter.live_bytes, meter.peak_bytes) == (size, size)
        del x
        assert (meter.live_bytes, meter.peak_bytes) == (0, size)
    assert (meter.live_bytes, meter.peak_bytes) == (0, size)


def test_dtypes_and_factories_count_their_elements():
    with PeakMemory("cpu") as meter:
        kept = [torch.zeros(10, 7), torch.ones(3, dtype=torch.float64), torch.arange(5), torch.empty(0), torch.rand(9)]
        assert meter.live_bytes == 10 * 7 * 4 + 3 * 8 + 5 * 8 + 9 * 4
        kept.clear()
        assert meter.live_bytes == 0


def test_the_peak_is_the_highest_sum_and_not_the_sum_of_all():
    with PeakMemory() as meter:
        for _ in range(5):
            x = block(KIB)
            y = block(2 * KIB)
            del x, y
        z = block(KIB)
        assert meter.peak_bytes == 3 * KIB
        assert meter.live_bytes == KIB
        del z


def test_views_cost_nothing():
    with PeakMemory() as meter:
        x = torch.zeros(16, 16)
        views = [x.t(), x[2:5], x.view(-1), x.unsqueeze(0).expand(9, 16, 16), x.detach(), x.reshape(8, 32)]
        assert meter.peak_bytes == 16 * 16 * 4
        del x
        assert meter.live_bytes == 16 * 16 * 4  # The views still hold the storage.
        views.clear()
        assert meter.live_bytes == 0


def test_older_memory_does_not_count():
    old = block(KIB)
    with PeakMemory() as meter:
        new = block(10)
        del old
        assert (meter.live_bytes, meter.peak_bytes) == (10, 10)
        del new
        assert meter.live_bytes == 0


def test_temporaries_inside_an_operation_are_seen():
    a, b, c = torch.rand(64, 32), torch.rand(32, 48), torch.rand(48, 64)
    with PeakMemory() as meter:
        product = torch.linalg.multi_dot([a, b, c])
    middle, result = min(64 * 48, 32 * 64) * 4, 64 * 64 * 4
    assert product.shape == (64, 64)
    assert meter.live_bytes == result
    assert meter.peak_bytes == middle + result


def test_a_chain_holds_two_products_at_a_time():
    x, weights = torch.rand(32, 32), [torch.rand(32, 32) for _ in range(6)]
    size = 32 * 32 * 4
    with PeakMemory() as meter, torch.no_grad():
        for weight in weights:
            x = x @ weight
    assert meter.peak_bytes == 2 * size
    assert meter.live_bytes == size


# --- several meters -------------------------------------------------------------------------------------------------
def test_the_peak_is_above_what_was_live_at_entry():
    with PeakMemory() as outer:
        kept = block(5 * KIB)
        with PeakMemory() as inner:
            assert (inner.live_bytes, inner.peak_bytes) == (0, 0)
            x = block(KIB)
            del x
            del kept
            assert (inner.live_bytes, inner.peak_bytes) == (-5 * KIB, KIB)
        assert (outer.live_bytes, outer.peak_bytes) == (0, 6 * KIB)


def test_an_inner_meter_does_not_lose_the_peak_of_an_outer_one():
    with PeakMemory() as outer:
        x = block(9 * KIB)
        del x
        with PeakMemory() as inner:
            y = block(KIB)
            del y
            assert outer.peak_bytes == 9 * KIB
        assert inner.peak_bytes == KIB
    assert (outer.peak_bytes, inner.peak_bytes) == (9 * KIB, KIB)


def test_meters_may_close_in_any_order():
    first, second = PeakMemory(), PeakMemory()
    first.__enter__()
    x = block(100)
    second.__enter__()
    y = block(10)
    first.__exit__(None, None, None)
    z = block(1)
    second.__exit__(None, None, None)
    assert (first.live_bytes, first.peak_bytes) == (110, 110)
    assert (second.live_bytes, second.peak_bytes) == (11, 11)
    assert x.numel() + y.numel() + z.numel() == 111


def test_one_meter_can_be_used_again_but_not_within_itself():
    meter = PeakMemory()
    for size in (KIB, 10):
        with meter:
            block(size)
        assert meter.peak_bytes == size
    with meter, pytest.raises(AutoSPError, match="open already"):
        meter.__enter__()


def test_an_exception_closes_the_meter():
    with pytest.raises(ZeroDivisionError), PeakMemory() as meter:
        x = block(KIB)
        _ = 1 / 0
    del x
    assert meter.peak_bytes == KIB


# --- blocks that outlive the meter, and calls that reach the allocator by other ways ---------------------------------
def test_tensors_may_outlive_the_meter():
    ops = rt.load()
    with PeakMemory() as meter:
        kept = block(KIB)
    after = block(7)
    assert (meter.live_bytes, ops.memory_meter_live()) == (KIB, KIB)
    with PeakMemory() as second:
        del kept
        assert (second.live_bytes, second.peak_bytes) == (0, 0)
        more = block(3)
        del after
        assert second.live_bytes == 3
    del more
    assert ops.memory_meter_live() == 0
    assert (meter.live_bytes, second.live_bytes) == (KIB, 3)


def test_a_storage_that_grows_after_the_meter_does_not_count():
    ops = rt.load()
    with PeakMemory():
        x = torch.arange(4, dtype=torch.uint8)
    x.resize_(KIB)  # Its allocator is still the hook.
    assert ops.memory_meter_live() == 0
    assert x[:4].tolist() == [0, 1, 2, 3]
    with PeakMemory() as meter:
        x.resize_(2 * KIB)
        assert meter.live_bytes == 2 * KIB
        del x
        assert meter.live_bytes == 0


def test_copy_on_write_storages_work_and_count_when_they_are_written():
    with PeakMemory() as meter:
        x = torch.arange(KIB, dtype=torch.uint8)
        lazy = torch._lazy_clone(x)
        assert meter.live_bytes == KIB
        lazy.add_(1)
        assert meter.live_bytes == 2 * KIB
        x.add_(1)
        assert torch.equal(x, lazy)
        del x, lazy
        assert meter.live_bytes == 0


def test_numpy_and_shared_memory_take_their_tensors_along():
    with PeakMemory() as meter:
        x = torch.arange(10)
        array = x.numpy()
        del x
        assert meter.live_bytes == 80
        assert array.sum() == 45
        y = torch.arange(10).share_memory_()
        assert meter.live_bytes == 80  # Shared memory is not the allocator's.
        del array
        assert meter.live_bytes == 0
    assert y.sum() == 45


def test_an_allocation_that_fails_counts_nothing():
    with PeakMemory() as meter:
        with pytest.raises(RuntimeError):
            block(1 << 60)
        assert (meter.live_bytes, meter.peak_bytes) == (0, 0)


# --- threads --------------------------------------------------------------------------------------------------------
def test_threads_leave_exact_counts():
    threads, rounds, size = 8, 300, 777
    start = threading.Barrier(threads)

    def work(kept):
        start.wait()
        for index in range(rounds):
            x = block(size)
            if index % 100 == 0:
                kept.append(x)

    lists = [[] for _ in range(threads)]
    workers = [threading.Thread(target=work, args=(kept,)) for kept in lists]
    with PeakMemory() as meter:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert meter.live_bytes == threads * rounds // 100 * size
        assert meter.live_bytes <= meter.peak_bytes <= meter.live_bytes + 2 * threads * size
        lists.clear()
        workers.clear()
        gc.collect()
        assert meter.live_bytes == 0


def test_blocks_may_be_freed_by_another_thread():
    with PeakMemory() as meter:
        kept = [block(100) for _ in range(50)]
        freeing = threading.Thread(target=kept.clear)
        freeing.start()
        freeing.join()
        assert (meter.live_bytes, meter.peak_bytes) == (0, 5000)


def test_parallel_kernels_and_the_backward_thread_are_seen():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        x = torch.rand(256, 256, requires_grad=True)
        with PeakMemory() as meter:
            (x @ x).exp().sum().backward()
            assert meter.live_bytes == 256 * 256 * 4  # x.grad
            assert meter.peak_bytes >= 3 * 256 * 256 * 4
            x.grad = None
            assert meter.live_bytes == 0
    finally:
        torch.set_num_threads(threads)


# --- training -------------------------------------------------------------------------------------------------------
def training_step(model, optimizer, x):
    model(x).square().mean().backward()
    optimizer.step()


def test_a_training_step():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 8))
    plain = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 8))
    plain.load_state_dict(model.state_dict())
    x = torch.rand(128, 32)
    training_step(plain, torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9), x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    with PeakMemory() as meter:
        training_step(model, optimizer, x)
        assert meter.live_bytes == 2 * parameters  # Gradients and momentum.
        first = meter.peak_bytes
        assert first >= parameters + 2 * 128 * 64 * 4  # Gradients and the two activations that backward reads.
        optimizer.zero_grad()
        assert meter.live_bytes == parameters
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with PeakMemory() as longer:
        model(torch.rand(256, 32)).square().mean().backward()
    assert longer.peak_bytes > first - 2 * parameters + 2 * 128 * 64 * 4


# --- off by default, devices ----------------------------------------------------------------------------------------
def test_the_meter_is_off_until_it_is_started():
    program = (
        "import torch\n"
        "from autosp import rt\n"
        "ops = rt.load()\n"
        "import autosp.memory\n"
        "x = torch.zeros(1000)\n"
        "ops.memory_meter_reset_peak(); ops.memory_meter_stop()\n"
        "y = x + 1\n"
        "assert (ops.memory_meter_live(), ops.memory_meter_peak()) == (0, 0)\n"
        "autosp.memory.PeakMemory('cpu')\n"
        "z = x + 2\n"
        "assert (ops.memory_meter_live(), ops.memory_meter_peak()) == (0, 0)\n"
        "meter = autosp.memory.PeakMemory('cpu').__enter__()\n"
        "w = torch.zeros(1000)\n"
        "assert meter.peak_bytes == 4000, meter.peak_bytes\n"  # and the process ends with w alive and the hook in place
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def test_other_devices_are_refused():
    with pytest.raises(AutoSPError, match='not on "meta"'):
        PeakMemory("meta")
    if not torch.cuda.is_available():
        with pytest.raises(AutoSPError, match="no CUDA device"):
            PeakMemory("cuda")


class FakeGpu:
    """torch.cuda's counters, driven by a test."""

    def __init__(self, monkeypatch):
        self.live = self.peak = 0
        for name, value in {
            "is_available": lambda: True,
            "init": lambda: None,
            "current_device": lambda: 3,
            "memory_allocated": lambda device: self.live if device == 3 else 0,
            "max_memory_allocated": lambda device: self.peak if device == 3 else 0,
            "reset_peak_memory_stats": lambda device: self.change(0, reset=True),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def change(self, size, reset=False):
        self.live += size
        self.peak = self.live if reset else max(self.peak, self.live)


def test_cuda_devices_use_the_counters_of_torch(monkeypatch):
    gpu = FakeGpu(monkeypatch)
    gpu.change(+1000)
    gpu.change(-400)
    with PeakMemory("cuda") as meter, PeakMemory("cpu") as cpu:
        assert meter.device == torch.device("cuda", 3)
        gpu.change(+50)
        gpu.change(-20)
        with PeakMemory("cuda:3") as inner:
            gpu.change(+10)
        gpu.change(-100)
        assert (meter.live_bytes, meter.peak_bytes) == (-60, 50)
    assert (inner.live_bytes, inner.peak_bytes) == (10, 10)
    assert (meter.peak_bytes, cpu.peak_bytes) == (50, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_tensors_count_like_cpu_tensors():
    size = 4 * KIB * KIB  # A multiple of what the GPU's allocator rounds to.
    torch.zeros(1, device="cuda")
    with PeakMemory("cuda") as meter:
        x = torch.zeros(size, dtype=torch.uint8, device="cuda")
        y = x + 1
        del x
        assert (meter.live_bytes, meter.peak_bytes) == (size, 2 * size)
        del y
