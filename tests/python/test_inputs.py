"""Tags: what prepare_auto_sp_inputs returns, marks and refuses."""

import pytest
import torch

import autosp
from autosp.inputs import seq_dim_of_tag


def batch():
    ids = torch.zeros(2, 8, dtype=torch.long)
    return ids, torch.ones_like(ids), torch.arange(8).expand(2, 8).contiguous(), torch.ones(2, 8, dtype=torch.bool)


def marked(tensor):
    return getattr(tensor, "_dynamo_dynamic_indices", set())


def test_returns_the_same_four_tagged_and_dynamic():
    given = batch()
    result = autosp.prepare_auto_sp_inputs(*given)
    assert all(new is old for new, old in zip(result, given, strict=True))
    assert [seq_dim_of_tag(tensor.tag) for tensor in result] == [1, 1, 1, 1]
    assert [marked(tensor) for tensor in result] == [{1}] * 4


def test_the_alias_is_the_same_function():
    assert autosp.prepare_autosp_inputs is autosp.prepare_auto_sp_inputs


def test_missing_inputs_stay_missing():
    ids = batch()[0]
    assert autosp.prepare_auto_sp_inputs(ids) == (ids, None, None, None)


def test_a_mapping_gives_the_four_in_order_whatever_else_it_holds():
    ids, labels, positions, _ = batch()
    result = autosp.prepare_auto_sp_inputs({"labels": labels, "extra": 3, "position_ids": positions, "input_ids": ids})
    assert result[0] is ids and result[1] is labels and result[2] is positions and result[3] is None


def test_a_mapping_and_tensors_together_are_refused():
    ids, labels, _, _ = batch()
    with pytest.raises(autosp.AutoSPError) as caught:
        autosp.prepare_auto_sp_inputs({"input_ids": ids}, labels)
    assert caught.value.code == "ASP0306"


def test_the_sequence_may_be_another_dim():
    ids = torch.zeros(8, 2, dtype=torch.long)
    autosp.prepare_auto_sp_inputs(ids, seq_dim=0)
    assert seq_dim_of_tag(ids.tag) == 0 and marked(ids) == {0}
    autosp.tag(ids, -1)
    assert seq_dim_of_tag(ids.tag) == 1


def test_a_dim_of_one_is_tagged_but_not_dynamic():
    ids = torch.zeros(2, 1, dtype=torch.long)
    autosp.prepare_auto_sp_inputs(ids)
    assert seq_dim_of_tag(ids.tag) == 1 and marked(ids) == set()


def test_a_mask_with_four_dims_stays_whole_unless_tagged():
    ids, mask = batch()[0], torch.ones(2, 1, 8, 8, dtype=torch.bool)
    autosp.prepare_auto_sp_inputs(ids, attention_mask=mask)
    assert not hasattr(mask, "tag")
    assert autosp.tag(mask, 2) is mask and seq_dim_of_tag(mask.tag) == 2


def test_a_dim_that_is_not_there_is_refused_with_both_numbers():
    with pytest.raises(autosp.AutoSPError) as caught:
        autosp.tag(batch()[0], 2)
    assert caught.value.code == "ASP0108"
    assert "seq_dim 2 is not a dim of a tensor with 2 dims, shape [2, 8]" in str(caught.value)


@pytest.mark.parametrize(
    "tag, seq_dim",
    [
        (("autosp", 2), 2),
        ("input_id", 1),
        (("label_id", 1), 1),
        (("position_id", 0), 0),
        ("other", None),
        (("other", 1), None),
        (None, None),
        (7, None),
        (("input_id", "x"), None),
    ],
)
def test_tags_of_deepspeed_are_understood_and_others_left_alone(tag, seq_dim):
    assert seq_dim_of_tag(tag) == seq_dim


def test_deepspeeds_own_helper_gives_tags_that_we_read():
    helper = pytest.importorskip("deepspeed.compile.passes.sp_compile").prepare_autosp_inputs
    ids, labels, positions, mask = batch()
    helper(ids, labels, positions, mask, seq_dim=1)
    assert [seq_dim_of_tag(tensor.tag) for tensor in (ids, labels, positions)] == [1, 1, 1]
