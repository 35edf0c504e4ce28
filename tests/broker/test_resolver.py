"""Names to addresses: asked once for a while, bounded, and an error when there are none."""

from __future__ import annotations

import pytest

from kernel_runtime.broker.resolver import Resolver
from kernel_runtime.domain.errors import OutsideFailed
from tests.broker.outside import Names, in_loop


def test_an_answer_is_remembered_for_a_while() -> None:
    async def story() -> None:
        names = Names(a_example=[["192.0.2.1"], ["192.0.2.2"]])
        remembering = names.resolver()
        assert await remembering.resolve("a.example") == await remembering.resolve("a.example")
        assert len(names.asked) == 1
        forgetful = names.resolver(ttl=0)
        assert await forgetful.resolve("a.example") == ("192.0.2.2",)
        assert len(names.asked) == 2

    in_loop(story())


def test_an_address_is_its_own_answer() -> None:
    async def story() -> None:
        names = Names()
        assert await names.resolver().resolve("192.0.2.1") == ("192.0.2.1",)
        assert await names.resolver().resolve("2001:db8::1") == ("2001:db8::1",)
        assert names.asked == []

    in_loop(story())


def test_an_answer_is_bounded() -> None:
    async def story() -> None:
        many = Names(a_example=[f"192.0.2.{number}" for number in range(100)])
        assert len(await many.resolver().resolve("a.example")) == 8

    in_loop(story())


def test_what_does_not_resolve_is_told() -> None:
    async def broken(host: str) -> list[str]:
        raise OSError(f"no such name as {host}")

    async def story() -> None:
        with pytest.raises(OutsideFailed, match=r"a\.example does not resolve: no such name"):
            await Resolver(broken).resolve("a.example")
        with pytest.raises(OutsideFailed, match="has no address"):
            await Names().resolver().resolve("a.example")

    in_loop(story())


def test_the_hosts_resolver_is_asked() -> None:
    async def story() -> None:
        assert set(await Resolver().resolve("localhost")) <= {"127.0.0.1", "::1"}

    in_loop(story())
