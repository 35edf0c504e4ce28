"""What doctor says to change, on each kind of host: facts in, text out."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.sandbox.stage import _NO_ID_MAPS
from kernel_runtime.workers.doctor import PURPOSES
from kernel_runtime.workers.hosts import Facts, read_facts
from kernel_runtime.workers.remedies import NAMESPACES, apparmor_profile, remedy

if TYPE_CHECKING:
    from pathlib import Path

UBUNTU = Facts(
    distribution="ubuntu",
    version="24.04",
    release="6.8.0-45-generic",
    apparmor_userns=True,
    interpreter="/usr/bin/python3.12",
    systemd=True,
)
DEBIAN = Facts(distribution="debian", version="12", release="6.1.0-18-amd64", systemd=True)
FEDORA = Facts(
    distribution="fedora",
    release="6.11.4-301.fc41.x86_64",
    systemd=True,
    lsms=("lockdown", "capability", "yama", "selinux"),
)
DOCKER = Facts(distribution="debian", release="6.1.0", container="docker", uid=0, filtered=True)
PODMAN = Facts(distribution="fedora", release="6.11.0", container="podman", filtered=True)
KUBERNETES = Facts(distribution="debian", release="6.6.0", container="kubernetes", filtered=True)
WSL_2 = Facts(distribution="ubuntu", release="6.6.87.2-microsoft-standard-WSL2", wsl=2)
MACOS = Facts(system="Darwin", release="24.1.0")


@pytest.mark.parametrize("facts", [UBUNTU, DEBIAN, FEDORA, DOCKER, PODMAN, KUBERNETES, WSL_2, MACOS])
@pytest.mark.parametrize("wall", PURPOSES)
def test_every_wall_has_a_remedy_on_every_host(wall: str, facts: Facts) -> None:
    text = remedy(wall, facts)
    assert len(text) > 40
    assert all(line.startswith("    ") or not line.startswith(" ") for line in text.splitlines())


def test_ubuntu_gets_the_profile_for_this_interpreter() -> None:
    text = remedy("user", UBUNTU)
    for line in apparmor_profile("/usr/bin/python3.12").splitlines():
        assert line in text
    assert "profile kernel-runtime /usr/bin/python3.12 flags=(unconfined) {" in text
    assert "sudo apparmor_parser -r /etc/apparmor.d/kernel-runtime" in text
    assert "venv --copies" in text  # this one is shared by every program


def test_the_profile_is_only_for_one_environment_where_it_can_be() -> None:
    import msgspec

    own = msgspec.structs.replace(UBUNTU, interpreter="/home/ada/env/bin/python3.12", virtual=True)
    assert "venv --copies" not in remedy("user", own)
    assert '"/home/ada/my env/python3"' in apparmor_profile("/home/ada/my env/python3")


def test_root_needs_no_profile() -> None:
    import msgspec

    assert "AppArmor" not in remedy("user", msgspec.structs.replace(UBUNTU, uid=0))


def test_a_sysctl_is_named_with_its_value() -> None:
    import msgspec

    off = msgspec.structs.replace(DEBIAN, userns_clone=False, none_allowed=("user", "net"))
    assert "kernel.unprivileged_userns_clone=1" in remedy("zygote", off)
    assert "user.max_user_namespaces=15000" in remedy("zygote", off)
    assert "user.max_net_namespaces" not in remedy("zygote", off)
    assert "user.max_net_namespaces=15000" in remedy("net", off)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (DOCKER, "--security-opt systempaths=unconfined"),
        (PODMAN, "--security-opt unmask=ALL"),
        (KUBERNETES, "procMount: Unmasked"),
    ],
)
def test_containers_get_their_flags(facts: Facts, said: str) -> None:
    assert said in remedy("mount", facts)
    assert "--privileged " not in remedy("mount", facts).replace("--privileged is not needed", "")


def test_a_container_on_a_restricted_ubuntu_is_told_of_both() -> None:
    import msgspec

    text = remedy("user", msgspec.structs.replace(DOCKER, apparmor_userns=True))
    assert "systempaths=unconfined" in text
    assert "kernel.apparmor_restrict_unprivileged_userns=0" in text


def test_landlock_is_added_to_the_modules_that_are_there() -> None:
    assert "--args=lsm=landlock,lockdown,yama,selinux" in remedy("landlock", FEDORA)
    assert "update-grub" in remedy("landlock", DEBIAN)
    assert "kernelCommandLine = lsm=landlock," in remedy("landlock", WSL_2)
    assert "5.13" in remedy("landlock", Facts(release="5.10.0-28-amd64"))


def test_control_groups_are_delegated() -> None:
    assert "systemd-run --user --scope -p Delegate=yes" in remedy("limits", DEBIAN)
    assert "writable-cgroups=true" in remedy("limits", DOCKER)
    assert "cgroup.subtree_control" in remedy("limits", Facts(distribution="alpine"))


@pytest.mark.parametrize("wall", NAMESPACES)
def test_an_unknown_reason_is_said_to_be_one(wall: str) -> None:
    assert "none of the usual reasons" in remedy(wall, DEBIAN)
    filtered = Facts(release="6.1.0", filtered=True)
    assert "system-call filter" in remedy(wall, filtered)


def test_a_file_system_without_id_maps_is_no_matter_of_user_namespaces() -> None:
    refused = OSError(errno.EINVAL, _NO_ID_MAPS.format("/srv/work"))
    text = remedy("mount", DEBIAN, str(refused))
    assert "ordinary user" in text and "tmpfs from Linux 6.3" in text
    assert "User namespaces are refused" not in text


def test_macos_is_refused_with_the_reason() -> None:
    assert remedy("mount", MACOS).startswith("macOS has no namespaces")
    assert "--set-version" in remedy("user", Facts(release="4.4.0-19041-Microsoft", wsl=1))


# -- reading the facts --------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The root of a host; files are added by the test."""
    write(tmp_path, "etc/os-release", 'ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n')
    write(tmp_path, "proc/sys/kernel/osrelease", "6.8.0-45-generic\n")
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_facts_are_read(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    write(host, "proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
    write(host, "proc/sys/kernel/unprivileged_userns_clone", "0\n")
    write(host, "proc/sys/user/max_user_namespaces", "0\n")
    write(host, "sys/kernel/security/lsm", "lockdown,capability,landlock,yama,apparmor")
    (host / "run/systemd/system").mkdir(parents=True)
    facts = read_facts(host)
    assert (facts.distribution, facts.version, facts.title) == ("ubuntu", "24.04", "Ubuntu 24.04.1 LTS")
    assert facts.apparmor_userns
    assert facts.userns_clone is False
    assert facts.none_allowed == ("user",)
    assert facts.lsms[2] == "landlock"
    assert facts.systemd
    assert facts.kernel == (6, 8)
    assert (facts.container, facts.wsl) == ("", 0)


def test_a_container_counts_only_where_it_confines(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual machine made of an image has the mark of a container, and none of its rules."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    write(host, ".dockerenv", "")
    assert read_facts(host).container == ""
    write(host, "proc/self/mountinfo", "36 35 0:5 / /proc/kcore rw,nosuid - tmpfs tmpfs rw\n")
    assert read_facts(host).container == "docker"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert read_facts(host).container == "kubernetes"


def test_wsl_is_told_from_its_kernel(host: Path) -> None:
    write(host, "proc/sys/kernel/osrelease", "6.6.87.2-microsoft-standard-WSL2\n")
    assert read_facts(host).wsl == 2
    write(host, "proc/sys/kernel/osrelease", "4.4.0-19041-Microsoft\n")
    assert read_facts(host).wsl == 1


def test_a_host_that_shows_nothing_is_no_error(tmp_path: Path) -> None:
    facts = read_facts(tmp_path)
    assert (facts.distribution, facts.lsms, facts.userns_clone) == ("", (), None)
