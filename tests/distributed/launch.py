"""Runs a function on N gloo ranks, each a process of its own, and collects what each rank answered.

    results = launch(__file__, "train", ranks=2, arguments={"steps": 3})
    assert results[0].value == ...

The function runs with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set and must call init_process_group (or
deepspeed.init_distributed) itself; it returns something that JSON can hold. A rank that raises gives a result with
`error`; the other ranks then get a short grace period to raise their own error and are killed. Nothing is left running.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any

# How long the other ranks may go on after one has failed: enough to reach their own error, far too short for a hang.
GRACE_SECONDS = 20.0


@dataclasses.dataclass
class RankResult:
    rank: int
    value: Any = None
    error: str = ""  # "AutoSPError: ..." when the function raised
    code: str = ""  # the ".code" of the exception when it has one
    returncode: int | None = None
    stderr: str = ""


class LaunchError(AssertionError):
    """A rank failed or the deadline passed; the text holds the end of every rank's stderr."""

    def __init__(self, text: str, results: list[RankResult]):
        super().__init__(text)
        self.results = results


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def extensions_folder() -> pathlib.Path:
    """Where DeepSpeed compiles its ops. A build that was killed leaves a lock, on which every later one waits forever."""
    folder = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "torch_extensions" / torch_version()
    for lock in folder.glob("**/lock"):
        if time.time() - lock.stat().st_mtime > GRACE_SECONDS + 300:
            lock.unlink(missing_ok=True)
    return folder


def torch_version() -> str:
    return importlib.metadata.version("torch").partition("+")[0]


def _environment(rank: int, ranks: int, port: int, extra: dict[str, str] | None) -> dict[str, str]:
    environment = dict(os.environ)
    environment.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
        LOCAL_WORLD_SIZE=str(ranks),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        OMP_NUM_THREADS="1",
        DS_ACCELERATOR="cpu",
        TORCH_EXTENSIONS_DIR=str(extensions_folder()),
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        PYTHONPATH=os.pathsep.join(path for path in sys.path if path),  # what pytest put there reaches the ranks too
    )
    environment.update(extra or {})
    return environment


def _kill(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    for process in processes:
        process.wait()


def _wait(processes: list[subprocess.Popen], timeout: float, grace: float) -> bool:
    """Waits until every rank has ended; True when the deadline passed first. Kills what is left."""
    deadline = time.monotonic() + timeout
    grace_set = False
    try:
        while any(process.poll() is None for process in processes):
            if not grace_set and any(process.poll() not in (None, 0) for process in processes):
                deadline = min(deadline, time.monotonic() + grace)
                grace_set = True
            if time.monotonic() > deadline:
                return not grace_set
            time.sleep(0.05)
        return False
    finally:
        _kill(processes)


def launch(
    file: str | os.PathLike,
    function: str,
    ranks: int,
    arguments: dict[str, Any] | None = None,
    timeout: float = 300.0,
    environment: dict[str, str] | None = None,
    check: bool = True,
    grace: float = GRACE_SECONDS,
) -> list[RankResult]:
    """Calls `function(**arguments)` of `file` on every rank. With `check`, any failure raises LaunchError."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="autosp_launch_") as folder:
        directory = pathlib.Path(folder)
        processes, logs = [], []
        for rank in range(ranks):
            log = open(directory / f"stderr.{rank}", "w+", encoding="utf-8", errors="replace")
            logs.append(log)
            command = [sys.executable, __file__, os.fspath(file), function, json.dumps(arguments or {}),
                       str(directory / f"result.{rank}")]
            processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                                              env=_environment(rank, ranks, port, environment)))
        timed_out = _wait(processes, timeout, grace)
        results = []
        for rank, (process, log) in enumerate(zip(processes, logs)):
            log.close()
            answer = directory / f"result.{rank}"
            fields = json.loads(answer.read_text()) if answer.exists() else {}
            stderr = (directory / f"stderr.{rank}").read_text(encoding="utf-8", errors="replace")
            results.append(RankResult(rank, returncode=process.returncode, stderr=stderr, **fields))
    failed = [result for result in results if result.returncode != 0]
    if timed_out or (check and failed):
        reason = f"no answer after {timeout} s" if timed_out else f"ranks {[r.rank for r in failed]} failed"
        tails = [f"--- rank {r.rank} (exit {r.returncode}) {r.error}\n{r.stderr[-3000:]}" for r in failed]
        raise LaunchError("\n".join([f"{function} on {ranks} ranks: {reason}", *tails]), results)
    return results


def _child(file: str, function: str, arguments: str, answer: str) -> None:
    spec = importlib.util.spec_from_file_location("autosp_rank_program", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(pathlib.Path(file).resolve().parent))
    status = 0
    try:
        spec.loader.exec_module(module)
        fields = {"value": getattr(module, function)(**json.loads(arguments))}
    except Exception as error:  # noqa: BLE001: every failure travels to the parent as data
        traceback.print_exc()
        root = error
        while not hasattr(root, "code") and (root.__cause__ or getattr(root, "inner_exception", None)):
            root = root.__cause__ or root.inner_exception
        fields = {"error": f"{type(root).__name__}: {root}", "code": str(getattr(root, "code", ""))}
        status = 1
    pathlib.Path(answer).write_text(json.dumps(fields))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not a normal exit: tearing down a process group whose peers are gone can block for minutes.
    os._exit(status)


if __name__ == "__main__":
    _child(*sys.argv[1:])
