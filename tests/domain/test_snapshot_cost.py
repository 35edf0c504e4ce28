"""Whether the copy before a cell pays: a pure function of what copies cost and cells compute."""

from __future__ import annotations

from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.domain.snapshot_cost import FORGET, Cost

BUDGET = Budget(share=0.1, pause=0.5)


def test_a_cheap_copy_always_pays() -> None:
    cost = Cost()
    assert cost.pays(BUDGET), "the first one is tried"
    cost.paid(0.5)
    assert cost.pays(BUDGET)


def test_a_dear_copy_pays_once_enough_was_computed() -> None:
    cost = Cost()
    cost.paid(2.0)
    cost.computed(19.0)
    assert not cost.pays(BUDGET)
    cost.computed(1.0)
    assert cost.pays(BUDGET)
    cost.paid(2.0)
    assert not cost.pays(BUDGET), "what was saved is saved"


def test_one_slow_moment_says_nothing_and_three_do() -> None:
    cost = Cost()
    cost.paid(0.1)
    cost.paid(9.0)
    cost.paid(9.0)
    assert cost.pays(BUDGET)
    cost.paid(9.0)
    assert not cost.pays(BUDGET)


def test_what_was_dear_once_is_forgotten_and_tried_again() -> None:
    cost = Cost()
    cost.paid(1.0)
    left_out = 0
    while not cost.pays(BUDGET):
        cost.forget()
        left_out += 1
    assert FORGET ** (left_out - 1) > BUDGET.pause >= cost.seconds
    assert 1 < left_out < 10
