"""Peak memory of tensors on CPU and GPU, with one meaning for both (docs/runtime.md). For benchmarks and tests."""

from __future__ import annotations

import threading

import torch

from autosp.errors import make_error


class _CpuCounters:
    """The allocator hook of libautosp_torch.so; it is in place while at least one meter is open."""

    def __init__(self):
        from autosp import rt

        ops = rt.load()
        self.start, self.stop = ops.memory_meter_start, ops.memory_meter_stop
        self.live, self.peak, self.reset_peak = (
            ops.memory_meter_live,
            ops.memory_meter_peak,
            ops.memory_meter_reset_peak,
        )


class _CudaCounters:
    """PyTorch's own counters of one GPU."""

    def __init__(self, index: int):
        self._index = index

    def start(self) -> None:
        torch.cuda.init()  # The counters do not exist before.

    def stop(self) -> None:
        pass

    def live(self) -> int:
        return torch.cuda.memory_allocated(self._index)

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self._index)

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._index)


def _resolve(device: str | torch.device | int) -> torch.device:
    device = torch.device(device)
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise make_error("kBadOption", f'memory is metered on "cpu" and "cuda" devices, not on "{device}"',
                         hint="measure on one of these devices")
    if not torch.cuda.is_available():
        raise make_error("kBadOption", f'memory of "{device}" cannot be metered: torch finds no CUDA device',
                         hint="measure on the device that the tensors are on")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)


class PeakMemory:
    """Measures the tensors of a block of code on one device, in bytes.

        with PeakMemory(device) as meter:
            step()
        print(meter.peak_bytes)

    Counted are the bytes that PyTorch's allocator of the device gave out, in the whole process, from every thread, with
    the workspace that operations ask it for. The device is "cpu", "cuda" or "cuda:<index>".

    Meters may be open at the same time, on one device or on several. On a GPU a meter resets PyTorch's own peak
    (`torch.cuda.reset_peak_memory_stats`). On a CPU the counting starts with the outermost meter: memory that is older
    is unknown to it, so freeing it lowers nothing, where on a GPU it does. Open one meter around the whole program to
    have the same on both.
    """

    _lock = threading.Lock()
    _open: list[PeakMemory] = []

    def __init__(self, device: str | torch.device | int = "cpu"):
        self.device = _resolve(device)
        self._counters = _CpuCounters() if self.device.type == "cpu" else _CudaCounters(self.device.index)
        self._at_entry = self._highest = self._at_exit = 0

    def __enter__(self) -> PeakMemory:
        with self._lock:
            if self in self._open:
                raise make_error("kBadOption", "this PeakMemory is open already", hint="nest two objects instead")
            self._counters.start()
            for meter in self._open:  # They share the one peak that is about to be lost.
                if meter.device == self.device:
                    meter._note_peak()
            self._counters.reset_peak()
            self._at_entry = self._highest = self._counters.live()
            self._open.append(self)
        return self

    def __exit__(self, *exception) -> None:
        with self._lock:
            self._note_peak()
            self._at_exit = self._counters.live()
            self._open.remove(self)
            self._counters.stop()

    def _note_peak(self) -> None:
        self._highest = max(self._highest, self._counters.peak())

    @property
    def peak_bytes(self) -> int:
        """The most that was live at once between entry and exit, or now, above what was live at entry."""
        with self._lock:
            if self in self._open:
                self._note_peak()
            return self._highest - self._at_entry

    @property
    def live_bytes(self) -> int:
        """What is live now, or was at exit, above what was live at entry; negative when more was freed."""
        with self._lock:
            return (self._counters.live() if self in self._open else self._at_exit) - self._at_entry
