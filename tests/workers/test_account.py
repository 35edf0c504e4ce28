"""What is counted over a whole session."""

from __future__ import annotations

import pytest

from kernel_runtime.domain.errors import LimitExceeded
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.workers.account import Account


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_bandwidth_is_a_time_to_wait() -> None:
    clock = Clock()
    account = Account(Limits(bandwidth=1000), clock)
    assert account.carried(1000) == 0  # a second's worth may come at once
    assert account.carried(500) == pytest.approx(0.5)
    clock.now += 10
    assert account.carried(1000) == 0


def test_the_total_is_refused_before_it_is_passed() -> None:
    account = Account(Limits(network=1000), Clock())
    assert account.carried(900) == 0
    with pytest.raises(LimitExceeded) as caught:
        account.carried(200)
    verdict = caught.value.verdict
    assert (verdict.reason, verdict.limit, verdict.used) == (Reason.NETWORK, 1000, 1100)
    assert account.network == 900
    assert account.carried(100) == 0


def test_messages_are_a_rate() -> None:
    clock = Clock()
    account = Account(Limits(), clock)
    for _ in range(10):
        account.sent(100)
    clock.now += 0.5
    assert account.message_rate() == pytest.approx(20)
    assert account.output == 1000
    clock.now += 1
    assert account.message_rate() == 0
