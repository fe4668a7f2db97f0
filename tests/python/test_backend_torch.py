"""What the backend needs of PyTorch's internals (autosp/private_torch.py), on the torch that is installed."""

import pickle

import pytest
import torch
from conftest import tiny_llama, token_batch

import autosp
from autosp import private_torch
from autosp.errors import make_error


def settings():
    import torch.fx.experimental._config

    return torch._dynamo.config.specialize_float, torch.fx.experimental._config.use_duck_shape


def test_settings_hold_for_a_marked_backend_and_are_restored():
    seen = []

    @private_torch.mark_backend
    def backend(gm, inputs):
        seen.append(settings())
        return gm.forward

    before = settings()
    assert torch.compile(lambda x: x + 1, backend=backend)(torch.zeros(2))[0] == 1
    assert seen == [(True, False)]
    assert settings() == before == (False, True)


def test_settings_hold_for_module_compile_and_partial():
    import functools

    seen = []

    @private_torch.mark_backend
    def backend(gm, inputs, *, options):
        seen.append(settings())
        return gm.forward

    class Twice(torch.nn.Module):
        def forward(self, x):
            return x * 2

    module = Twice()
    module.compile(backend=functools.partial(backend, options={}))
    module(torch.zeros(1, 2))
    assert seen == [(True, False)]


def test_settings_are_restored_when_the_backend_fails():
    @private_torch.mark_backend
    def backend(gm, inputs):
        raise ValueError("broken")

    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed):
        torch.compile(lambda x: x + 1, backend=backend)(torch.zeros(2))
    assert settings() == (False, True)


def test_other_backends_trace_as_ever():
    seen = []

    def backend(gm, inputs):
        seen.append(settings())
        return gm.forward

    torch.compile(lambda x: x + 1, backend=backend)(torch.zeros(2))
    assert seen == [(False, True)]


@pytest.mark.parametrize("fullgraph", [True, False])
def test_an_error_reaches_the_caller_as_it_is(fullgraph):
    @private_torch.mark_backend
    def backend(gm, inputs):
        with private_torch.exceptions_unwrapped():
            raise make_error("kNoRule", "aten.sort has no rule", notes=["first note"])

    with pytest.raises(autosp.AutoSPError) as caught:
        torch.compile(lambda x: x + 1, backend=backend, fullgraph=fullgraph)(torch.zeros(2))
    assert type(caught.value).__name__ == "AutoSPError"
    assert caught.value.code == "ASP0201"
    assert caught.value.diagnostics[0]["notes"] == ["first note"]
    assert str(caught.value).startswith("error[ASP0201]: aten.sort has no rule")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is autosp.AutoSPError and copy.code == "ASP0201"


def test_an_error_outside_dynamo_is_an_autosp_error_too():
    with pytest.raises(autosp.AutoSPError), private_torch.exceptions_unwrapped():
        raise make_error("kNoRule", "aten.sort has no rule")


def test_metadata_that_aot_reads_is_carried_over():
    from torch._functorch._aot_autograd.frontend_utils import _try_get_metadata_from_dynamo

    from autosp.capture import capture

    seen = []

    @private_torch.mark_backend
    def backend(gm, inputs):
        count = len(inputs)
        arguments = (gm._parameters.keys(), count, [])
        seen.append(_try_get_metadata_from_dynamo(gm, *arguments))
        seen.append(_try_get_metadata_from_dynamo(capture(gm, inputs), *arguments))
        return gm.forward

    torch.compile(tiny_llama(1), backend=backend)(**token_batch(2, 16)).loss
    assert seen[0] == seen[1]
    assert seen[0][0] is not None


def test_one_program_too_many_is_an_error_and_never_an_unsharded_step():
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)
            self.times = 0

        def forward(self, x):
            return (self.linear(x) * self.times).sum()

    torch._dynamo.reset()
    model = Scaled()
    compiled = torch.compile(model, backend="autosp", options={"sequence_parallel_size": 1, "inner_backend": "eager"})
    with torch._dynamo.config.patch(recompile_limit=3, specialize_int=True):
        with pytest.raises(Exception, match="recompile_limit"):
            for times in range(6):
                model.times = times
                compiled(torch.randn(2, 4)).backward()
