"""The ranks that share one sequence, and what they tell each other before the first collective.

Ranks compare short texts through the store of their process group, with a deadline: they may compile at different
moments, and one of them may have failed, so a collective there could hang.
"""

from __future__ import annotations

import datetime
import hashlib
import time
import weakref
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch.distributed as dist

from autosp import private_torch
from autosp.errors import make_error

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
    """The given group (a name or a ProcessGroup), or this rank's part of the world cut in groups of `size`."""
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
    if not isinstance(group, dist.ProcessGroup):
        raise make_error(
            "kBadOption", f'option "group" is {group!r}; allowed: the name of a process group or a ProcessGroup'
        )
    return group


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
    store = private_torch.process_group_store(group.process_group)
    store.set(_key(kind, _next(group, kind), group.index), "failed " + text)


def compare(group: Group, kind: str, text: str, deadline_s: float) -> Difference | None:
    """None when all ranks of the group gave the same text; the same verdict on every rank.

    Hashes are exchanged first and the texts only when they differ. Raises kRankTimeout naming the ranks that were not
    heard of within the deadline, kPlanDiffers when one of them failed before it came here.
    """
    store = private_torch.process_group_store(group.process_group)
    number = _next(group, kind)
    until = time.monotonic() + deadline_s
    mine = "hash " + hashlib.sha256(text.encode()).hexdigest()
    store.set(_key(kind, number, group.index), mine)
    answers = _collect(store, group, [_key(kind, number, i) for i in range(group.size)], kind, until, deadline_s)
    for rank, answer in zip(group.ranks, answers, strict=True):
        if answer.startswith("failed "):
            raise make_error(
                "kPlanDiffers",
                f"rank {rank} refused the program that rank {group.ranks[group.index]} accepted",
                notes=[f"rank {rank}: {answer.removeprefix('failed ')}"],
            )
    if all(answer == mine for answer in answers):
        return None
    store.set(_key(kind, number, group.index) + "/text", text)
    other = next(i for i, answer in enumerate(answers) if answer != mine)
    [theirs] = _collect(store, group, [_key(kind, number, other) + "/text"], kind, until, deadline_s)
    pairs = zip_longest(text.splitlines(), theirs.splitlines(), fillvalue="")
    ours, theirs = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return Difference(group.ranks[other], ours.strip(), theirs.strip())


def _next(group: Group, kind: str) -> int:
    counts = _comparisons.setdefault(group.process_group, {})
    counts[kind] = counts.get(kind, 0) + 1
    return counts[kind]


def _key(kind: str, number: int, index: int) -> str:
    return f"autosp/{kind}/{number}/{index}"


def _collect(store: Any, group: Group, keys: list[str], kind: str, until: float, deadline_s: float) -> list[str]:
    try:
        store.wait(keys, datetime.timedelta(seconds=max(until - time.monotonic(), 0.001)))
    except RuntimeError:
        # Keys end in the index of the rank, or in its text.
        missing = [key for key in keys if not store.check([key])]
        ranks = [group.ranks[int(key.removesuffix("/text").rsplit("/", 1)[1])] for key in missing]
        if not missing:
            return [store.get(key).decode() for key in keys]
        raise make_error(
            "kRankTimeout",
            f"rank {', '.join(map(str, ranks))} did not answer rank {group.ranks[group.index]} within "
            f"{deadline_s:g} s when the group {list(group.ranks)} compared its {kind}",
        ) from None
    return [store.get(key).decode() for key in keys]
