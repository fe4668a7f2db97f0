"""The conformance cases of the C++ communicators (tests/unit/runtime/conformance) over gloo processes."""

from __future__ import annotations

import ctypes
import datetime
import pathlib

import pytest
import torch
import torch.distributed as dist
from autosp import rt
from launch import launch

RANK_THAT_DIES = 9


def suite_path() -> pathlib.Path:
    return rt.library_path().with_name("libautosp_c10d_conformance.so")


def load_suite() -> ctypes.CDLL:
    suite = ctypes.CDLL(str(suite_path()))
    for function in (suite.conformance_name, suite.conformance_run):
        function.restype = ctypes.c_char_p
    return suite


def run_cases(breaking: bool):
    """Every case that breaks no group, or every one that does; the last of those kills the last rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    rt.load()
    suite = load_suite()
    done = {}
    for index in range(suite.conformance_cases()):
        if bool(suite.conformance_breaks_groups(index)) != breaking:
            continue
        # The suite sets the case's own deadline; making the groups may take longer.
        groups = [dist.new_group().group_name.encode() for _ in range(2)]
        name = suite.conformance_name(index).decode()
        done[name] = suite.conformance_run(index, *groups).decode()
    if breaking:
        # Whoever is left answers; nothing that waits for the dead rank may run at exit.
        return done
    dist.barrier()
    dist.destroy_process_group()
    return done


def run_sound_cases():
    return run_cases(breaking=False)


def run_breaking_cases():
    return run_cases(breaking=True)


@pytest.mark.parametrize("ranks", [2, 3])
def test_gloo_ranks_that_stay(ranks):
    for result in launch(__file__, "run_sound_cases", ranks=ranks):
        assert "ValuesOfEveryDtype" in result.value and "MismatchedShapes" in result.value
        assert {name: problems for name, problems in result.value.items() if problems} == {}


def test_gloo_ranks_that_leave():
    results = launch(__file__, "run_breaking_cases", ranks=3, check=False)
    assert results[2].returncode == RANK_THAT_DIES, results[2].stderr
    for result in results[:2]:
        assert result.value is not None and "ARankThatDies" in result.value, result.stderr
        assert {name: problems for name, problems in result.value.items() if problems} == {}
