"""What is kept of the outputs of a part of a network that stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tasks.finetuning import sleeping
from tasks.finetuning.sleeping import begin_keeping, heard, standing_in

ROWS, POSITIONS, WIDTH = 6, 5, 4


class Body(torch.nn.Module):
    """Says of each row what it is given, (rows, positions, width), and the sum of that."""

    def forward(self, given: Any) -> Any:
        return BaseModelOutputWithPooling(last_hidden_state=given, pooler_output=given.sum(dim=1))


class Network(torch.nn.Module):
    """A body, and a head that reads some of its outputs."""

    def __init__(self, read: Any, times: int = 1) -> None:
        super().__init__()
        self.body = Body()
        self._read, self._times = read, times

    def forward(self, given: Any) -> Any:
        for _ in range(self._times):
            outputs = self.body(given)
        return self._read(outputs)


GIVEN = torch.arange(ROWS * POSITIONS * WIDTH, dtype=torch.float32).reshape(ROWS, POSITIONS, WIDTH)


@pytest.mark.parametrize(
    ("read", "extents"),
    [
        (lambda outputs: outputs[1].sum(dim=1), {"last_hidden_state": "nothing", "pooler_output": "all"}),
        (lambda outputs: outputs[0][:, 0], {"last_hidden_state": "first", "pooler_output": "nothing"}),
        (lambda outputs: outputs[0].mean(dim=1), {"last_hidden_state": "all", "pooler_output": "nothing"}),
        (lambda outputs: outputs[0][:, -1], {"last_hidden_state": "all", "pooler_output": "nothing"}),
        (lambda outputs: torch.relu(-outputs[0]).sum(dim=(1, 2)), {"last_hidden_state": "all"}),
    ],
    ids=["pooled", "first position", "mean", "last position", "all that is zero after it"],
)
def test_as_much_is_kept_as_the_head_reads_and_the_network_says_the_same_of_any_rows(
    read: Any, extents: dict[str, str]
) -> None:
    network = Network(read)
    kept = begin_keeping(network.body, ROWS, ROWS, lambda: network(GIVEN))
    assert kept is not None
    assert {**kept.read, **extents} == kept.read
    _, outputs = heard(network.body, lambda: network(GIVEN))
    kept.add(range(ROWS), [POSITIONS] * ROWS, outputs)
    for rows in ([0], [5, 2, 3], list(range(ROWS))):
        with standing_in(network.body, kept.of(rows)):
            said = network(None)
        assert torch.equal(said, network(GIVEN[rows]))


def test_texts_are_kept_at_their_own_lengths_and_padded_to_the_longest_of_a_batch() -> None:
    network = Network(lambda outputs: outputs[0].sum(dim=1))
    kept = begin_keeping(network.body, ROWS, ROWS, lambda: network(GIVEN))
    assert kept is not None
    lengths = [5, 4, 3, 2, 2, 1]
    kept.add(range(ROWS), lengths, Body()(GIVEN))
    assert kept.of([3, 5]).last_hidden_state.shape == (2, 2, WIDTH)
    assert torch.equal(kept.of([5]).last_hidden_state, GIVEN[5:, :1])


def test_a_body_that_is_asked_twice_says_less_than_two_tensors_for_each_row_or_too_much_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(outputs: Any) -> Any:
        return outputs[0].mean(dim=1)

    twice, once = Network(read, times=2), Network(read)
    assert begin_keeping(twice.body, ROWS, ROWS, lambda: twice(GIVEN)) is None
    assert begin_keeping(once.body, ROWS, ROWS - 1, lambda: once(GIVEN)) is None
    for times, is_kept in ((1, True), (2, False)):
        monkeypatch.setattr(sleeping, "_MOST_BYTES", GIVEN.nbytes)
        assert (begin_keeping(once.body, times * ROWS, ROWS, lambda: once(GIVEN)) is not None) is is_kept


def test_a_body_is_as_it_was_afterwards() -> None:
    body = Body()
    with standing_in(body, "said"):
        assert body(GIVEN) == "said"
    assert torch.equal(body(GIVEN).last_hidden_state, GIVEN)
