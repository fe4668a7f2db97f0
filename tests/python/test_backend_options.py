"""Options of the backend: what is accepted, what is refused and how it is said."""

import pytest

import autosp
from autosp.options import Options


def refused(**options):
    with pytest.raises(autosp.AutoSPError) as caught:
        Options.read(options)
    assert caught.value.code == "ASP0306"
    return str(caught.value)


def test_defaults():
    options = Options.read({})
    assert (options.inner_backend, options.checkpoint, options.outputs, options.verify) == (
        "inductor",
        "none",
        "sharded",
        True,
    )


def test_an_unknown_name_lists_the_known_ones():
    text = refused(sequence_parallel=2)
    assert 'there is no option "sequence_parallel"' in text
    assert "sequence_parallel_size, group, inner_backend" in text


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("sequence_parallel_size", 0, "an integer >= 1"),
        ("sequence_parallel_size", True, "an integer >= 1"),
        ("sequence_parallel_size", "2", "an integer >= 1"),
        ("inner_backend", "nvfuser", '"inductor" | "aot_eager" | "eager"'),
        ("on_gather", None, '"allow" | "warn" | "error"'),
        ("gather_limit", 0, "an integer of bytes, or text with a unit"),
        ("outputs", "whole", '"sharded" | "gathered" | "loss_only"'),
        ("verify", 1, "True | False"),
        ("deadline_s", 0, "a number of seconds > 0"),
        ("dump_dir", 3, "a folder"),
        ("checkpoint", "most", '"none" | "full" | "sac" | "auto"'),
        ("memory_budget", -1, "an integer of bytes, a fraction, or text with a unit"),
    ],
)
def test_a_bad_value_is_shown_with_what_is_allowed(name, value, allowed):
    text = refused(**{name: value})
    assert f'option "{name}" is {value!r}; allowed: {allowed}' in text
