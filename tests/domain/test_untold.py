"""The host's paths in what a guest is told."""

from __future__ import annotations

import pytest

from kernel_runtime.domain.untold import without_paths


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/ann/.local/state/kernel-runtime/state.db: locked", "state.db: locked"),
        (
            "x: denied (deny cache, /home/ann/.config/kernel-runtime/policy.toml)",
            "x: denied (deny cache, policy.toml)",
        ),
        ("/etc/kernel-runtime/policy.toml:3: allow[0]: no", "policy.toml:3: allow[0]: no"),
        ("chmod go-w ~/.config/kernel-runtime/policy.toml", "chmod go-w policy.toml"),
        ("others may write '/srv/a b/c d e/p.toml'", "others may write 'p.toml'"),
        ("/mnt/My Disk/state.db is full", "state.db is full"),
        ("below /srv/data, /srv/more only", "below data, more only"),
        ("[Errno 13] Permission denied: '/srv/data/x'", "[Errno 13] Permission denied: 'x'"),
        ("database=/srv/x.db", "database=x.db"),
        ("no rule speaks of net:example.org:443/GET, 60/min, read/write", None),
        ("--allow files:read:/home/ann/work/a.csv grants it", None),
        ("net:[::1]/GET, net:*/GET and https://example.org/a/b", None),
        ("nothing to see / here", None),
    ],
)
def test_only_the_last_name_of_a_path_is_left(text: str, told: str | None) -> None:
    assert without_paths(text) == (text if told is None else told)


def test_what_the_guest_has_said_stays_as_it_said_it() -> None:
    assert (
        without_paths("/srv/a/b.csv: there is no such file", ["/srv/a/b.csv"])
        == "/srv/a/b.csv: there is no such file"
    )
    assert (
        without_paths("/srv/a/b.csv: there is no such file", ["./a/b.csv", ""])
        == "a/b.csv: there is no such file"
    )
    assert without_paths("/srv/other/b.csv: no", ["/srv/a/b.csv"]) == "b.csv: no"
    assert (
        without_paths("/srv/a/b.csv: no", ["/srv/a/b.csv /srv/a/c.csv"]) == "b.csv: no"
    )  # a list of guesses
    assert without_paths("'/x/../y' has detours", ["https://example.org/x/../y"]) == "'/x/../y' has detours"
