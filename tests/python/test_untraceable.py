"""What Dynamo cannot trace whole is an AutoSPError with a code and the user's line, not a stack trace of torch."""

import logging

import pytest
import torch
from torch import nn

import autosp

# One rank: what Dynamo says after the backend has run is met too, and no process group is needed.
OPTIONS = {"sequence_parallel_size": 1, "inner_backend": "eager"}
log = logging.getLogger("model")


class Model(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.embedding, self.act = nn.Embedding(32, 8), act

    def forward(self, ids):
        return self.act(self.embedding(ids)).pow(2).mean()


def ids(length=12):
    return autosp.tag(torch.arange(2 * length).reshape(2, length) % 32, 1)


def breaks(x):
    torch._dynamo.graph_break()
    return x


def fixes_the_length(x):
    return x * 2 if x.shape[1] == 12 else x


def has_an_opinion(x):
    log.warning_once("said while tracing")
    return x


def compiled(act, backend="autosp"):
    return torch.compile(Model(act), backend=backend, fullgraph=True, **({"options": OPTIONS} if backend == "autosp" else {}))


@pytest.mark.parametrize(
    ("act", "text"),
    [(breaks, "torch._dynamo.graph_break"), (fixes_the_length, "specialized it to be a constant (12)")],
)
def test_an_untraceable_model_is_refused_with_its_line(act, text):
    with pytest.raises(autosp.AutoSPError) as caught:
        compiled(act)(ids())
    assert caught.value.code == "ASP0103"
    assert text in str(caught.value)
    assert f"{__file__}:" in str(caught.value).splitlines()[1]
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_explain_refuses_alike():
    with pytest.raises(autosp.AutoSPError, match="ASP0103"):
        autosp.explain(Model(breaks), {"ids": ids()}, sequence_parallel_size=2)


def test_other_backends_raise_what_they_did():
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(breaks, backend="eager")(ids())


def test_an_error_that_the_caller_handles_is_left_alone():
    def untouched(x):
        return x

    try:
        compiled(breaks, backend="eager")(ids())
    except torch._dynamo.exc.Unsupported:
        compiled(untouched)(ids())


def test_a_one_time_note_does_not_cut_the_model():
    pytest.importorskip("transformers")
    import transformers.utils.logging  # noqa: F401  adds warning_once to logging.Logger

    assert autosp.explain(Model(has_an_opinion), {"ids": ids()}, sequence_parallel_size=2).collectives
