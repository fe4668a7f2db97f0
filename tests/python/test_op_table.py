"""The rule table against the operators of the installed torch: rows address arguments by name and position."""

import pytest
import torch

from autosp import _core


# Names that passes give to an operator of torch to tell each other something; lower-collectives takes them back.
OTHER_NAMES = {"autosp_fx.draw_seed": "aten.randint"}
# Operations of passes alone, which lower-collectives takes apart: no operator of torch has these names.
OWN = ("autosp_fx.halo_conv1d", "autosp_fx.shift")


def operator_of(name):
    namespace, base, *overload = name.split(".")
    if namespace == "transformers":  # Registers its operators when it is imported.
        pytest.importorskip("transformers.integrations.moe")
    packet = getattr(getattr(torch.ops, namespace), base)
    return getattr(packet, overload[0] if overload else "default")


@pytest.mark.parametrize("row", [row for row in _core.list_rules() if row["op"] not in OWN], ids=lambda row: row["op"])
def test_parameters_are_those_of_the_schema(row):
    schema = [argument.name for argument in operator_of(OTHER_NAMES.get(row["op"], row["op"]))._schema.arguments]
    parameters = list(row["parameters"])
    assert parameters == schema[: len(parameters)]
