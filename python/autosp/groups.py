"""The ranks that share one sequence, and what they tell each other before the first collective.

Ranks compare short texts through the store of their process group, with a deadline: they may compile at different
moments, and one of them may have failed, so a collective there could hang.
"""

from __future__ import annotations

import datetime
import hashlib
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch.distributed as dist

from autosp import private_torch
from autosp.errors import make_error

AXIS = "sp"  # The axis of a mesh over which the sequence is cut.

# World group -> {size: this rank's group}. A group is made once, by all ranks in the same order.
_contiguous: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
# Group -> {kind: number of comparisons so far}, so that the n-th comparison of each rank meets the n-th of the others.
_comparisons: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Group:
    """A process group and where this rank stands in it."""

    process_group: Any
    name: str
    ranks: tuple[int, ...]  # Global ranks, in the order of the group.
    index: int

    @property
    def size(self) -> int:
        return len(self.ranks)


def is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def sequence_parallel_group(group: Any, size: int | None) -> Group:
    """The given group (a name, a ProcessGroup or a mesh), or this rank's part of the world cut in groups of `size`."""
    if not is_initialized():
        wanted = "all ranks" if size is None else f"{size} ranks"
        raise make_error("kNoProcessGroup", f"sequence parallelism over {wanted} needs torch.distributed")
    if group is None:
        return _describe(_contiguous_group(dist.get_world_size() if size is None else size))
    found = _describe(_resolve(group))
    if size is not None and size != found.size:
        raise make_error(
            "kBadOption", f'"sequence_parallel_size" is {size} and the group "{found.name}" has {found.size} ranks'
        )
    return found


def _resolve(group: Any) -> Any:
    if isinstance(group, str):
        try:
            return private_torch.resolve_process_group(group)
        except (RuntimeError, LookupError, ValueError):
            raise make_error("kBadOption", f'there is no process group "{group}"') from None
    if isinstance(group, dist.device_mesh.DeviceMesh):
        return _group_of_mesh(group)
    if not isinstance(group, dist.ProcessGroup):
        raise make_error(
            "kBadOption",
            f'option "group" is {group!r}; allowed: the name of a process group, a ProcessGroup or a DeviceMesh',
        )
    return group


def _group_of_mesh(mesh: Any) -> Any:
    """Of a mesh with one dim its group; of one with more that of its dim "sp"."""
    names = mesh.mesh_dim_names or ()
    if mesh.ndim != 1 and AXIS not in names:
        raise make_error(
            "kBadOption",
            f'option "group" is a mesh with the dims {list(names) or mesh.ndim}; which of them cuts the sequence?',
            hint=f'name that dim "{AXIS}", or give mesh["its name"]',
        )
    return mesh.get_group() if mesh.ndim == 1 else mesh.get_group(AXIS)


def _describe(process_group: Any) -> Group:
    index = dist.get_rank(process_group)
    if index < 0:
        raise make_error(
            "kBadOption", f'rank {dist.get_rank()} is not in the group "{process_group.group_name}"'
        )
    return Group(process_group, process_group.group_name, tuple(dist.get_process_group_ranks(process_group)), index)


def _contiguous_group(size: int) -> Any:
    world = dist.get_world_size()
    if size > world or world % size:
        raise make_error(
            "kWorldSizeMismatch", f"world size {world} is not a multiple of sequence_parallel_size {size}"
        )
    if size == world:
        return dist.group.WORLD
    made = _contiguous.setdefault(dist.group.WORLD, {})
    if size not in made:
        for first in range(0, world, size):
            ranks = list(range(first, first + size))
            group = dist.new_group(ranks)
            if dist.get_rank() in ranks:
                made[size] = group
    return made[size]


@dataclass(frozen=True)
class Difference:
    """Another rank's text differs from ours: the first line in which it does."""

    rank: int
    ours: str
    theirs: str


def post_failure(group: Group, kind: str, text: str) -> None:
    """Tells the others of the group that this rank will not answer their comparison, and why."""
    exchange = _Exchange(group, kind, _COURTESY_S)
    exchange.put(exchange.key(group.index), "failed " + text)
    exchange.leave(exchange.key(index) for index in range(group.size))


def compare(group: Group, kind: str, text: str, deadline_s: float) -> Difference | None:
    """None when all ranks of the group gave the same text; the same verdict on every rank.

    Hashes are exchanged first and the texts only when they differ. Raises kRankTimeout naming the ranks that were not
    heard of within the deadline, kPlanDiffers when one of them failed before it came here.
    """
    exchange = _Exchange(group, kind, deadline_s)
    mine = "hash " + hashlib.sha256(text.encode()).hexdigest()
    exchange.put(exchange.key(group.index), mine)
    answers = [exchange.get(index) for index in range(group.size)]
    if all(answer == mine for answer in answers):
        return None
    failed = next((index for index, answer in enumerate(answers) if answer.startswith("failed ")), None)
    if failed is not None:
        exchange.leave()
        raise make_error(
            "kPlanDiffers",
            f"rank {group.ranks[failed]} refused the program that rank {group.ranks[group.index]} accepted",
            notes=[f"rank {group.ranks[failed]}: {answers[failed].removeprefix('failed ')}"],
        )
    exchange.put(exchange.key(group.index) + "/text", text)
    other = next(index for index, answer in enumerate(answers) if answer != mine)
    theirs = exchange.get(other, "/text")
    exchange.leave()
    pairs = zip_longest(text.splitlines(), theirs.splitlines(), fillvalue="")
    line, line_there = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return Difference(group.ranks[other], line.strip(), line_there.strip())


def share(group: Group, kind: str, make: Callable[[], str], deadline_s: float) -> str:
    """What make() gives on the first rank of the group, on every rank. Raises as `compare` does."""
    exchange = _Exchange(group, kind, deadline_s)
    if group.index == 0:
        try:
            exchange.put(exchange.key(0), "text " + make())
        except Exception as error:
            exchange.put(exchange.key(0), f"failed {error}")
            raise
    answer = exchange.get(0)
    if answer.startswith("failed "):
        raise make_error(
            "kPlanDiffers",
            f"rank {group.ranks[0]} could not make the {kind} that rank {group.ranks[group.index]} waits for",
            notes=[f"rank {group.ranks[0]}: {answer.removeprefix('failed ')}"],
        )
    return answer.removeprefix("text ")


# How long a rank that is about to fail waits until the others have read what it wrote: it may host the store.
_COURTESY_S = 5.0


class _Exchange:
    """One comparison: the n-th of its kind in its group."""

    def __init__(self, group: Group, kind: str, deadline_s: float):
        counts = _comparisons.setdefault(group.process_group, {})
        counts[kind] = counts.get(kind, 0) + 1
        self._prefix = f"autosp/{kind}/{counts[kind]}"
        self._store = private_torch.process_group_store(group.process_group)
        self._group, self._kind, self._deadline_s = group, kind, deadline_s
        self._until = time.monotonic() + deadline_s

    def key(self, index: int) -> str:
        return f"{self._prefix}/{index}"

    def put(self, key: str, text: str) -> None:
        self._store.set(key, text)

    def get(self, index: int, suffix: str = "") -> str:
        """What the rank with this index put, once it has."""
        key = self.key(index) + suffix
        try:
            self._store.wait([key], datetime.timedelta(seconds=max(self._until - time.monotonic(), 0.001)))
            return self._store.get(key).decode()
        except RuntimeError as error:  # A deadline that passed, or a store that is gone.
            group = self._group
            raise make_error(
                "kRankTimeout",
                f"rank {group.ranks[index]} did not answer rank {group.ranks[group.index]} within "
                f"{self._deadline_s:g} s when the group {list(group.ranks)} compared its {self._kind}",
                notes=[str(error).splitlines()[0]],
            ) from None

    def leave(self, until_present: Iterable[str] = ()) -> None:
        """Says that this rank has read all it wanted, and gives the others a moment to do the same."""
        until = time.monotonic() + _COURTESY_S
        try:
            self.put(f"{self._prefix}/done/{self._group.index}", "")
            keys = list(until_present)
            if keys:
                self._store.wait(keys, datetime.timedelta(seconds=_COURTESY_S))
            failed = {key for key in keys if self._store.get(key).startswith(b"failed ")}
            readers = [i for i in range(self._group.size) if self.key(i) not in failed]
            rest = datetime.timedelta(seconds=max(until - time.monotonic(), 0.001))
            if readers:
                self._store.wait([f"{self._prefix}/done/{index}" for index in readers], rest)
        except RuntimeError:
            pass  # A courtesy: the error that follows is the one to show.
