"""The exact change that would let a wall stand on a host: facts in, text out. Pure.

A remedy is a sentence, followed by commands or file contents on lines of their own, indented by
four spaces, to be copied as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_runtime.workers.hosts import Facts

#: The walls that need namespaces, and with them a user namespace that has power.
NAMESPACES = ("zygote", "pid", "user", "mount", "net", "ipc", "uts", "cgroup")
_KINDS = {"zygote": "user", "mount": "mnt"}
_MOUNT_KERNEL, _LANDLOCK_KERNEL = (5, 12), (5, 13)
_FILTER = (
    "A system-call filter was put on this process by what started it (a container, a service manager, an IDE, another "
    "sandbox). Start it from a plain shell, or have that filter allow seccomp, capset, unshare, clone, setns, mount, "
    "umount2, pivot_root, mount_setattr and sethostname (systemd: RestrictNamespaces=no, an empty SystemCallFilter=, "
    "ProtectKernelTunables=no)"
)
#: In the words of ``image``.
UNREACHABLE = "cannot reach it"
#: In the words of ``stage``.
UNMAPPED = "without id-mapped mounts"
_PROFILE = "/etc/apparmor.d/kernel-runtime"


def remedy(wall: str, facts: Facts, reason: str = "") -> str:
    """What to change on this host so that ``wall`` stands; ``reason``: why it does not."""
    if facts.system != "Linux":
        return _not_linux(facts)
    if facts.wsl == 1:
        return (
            "WSL 1 translates system calls and has no Linux kernel. Convert the distribution, in PowerShell:\n"
            "    wsl --set-version <distribution> 2"
        )
    if UNREACHABLE in reason:
        return (
            "The guests of root are another user, who cannot enter the directory that Python lies in. Use a Python that "
            "everybody may read (below /usr or /opt, not in root's home), or run as an ordinary user"
        )
    if UNMAPPED in reason:
        return (
            "The guests of root are another user, for whom root's directories are mounted with other owners, and the file "
            "system named above cannot do that. Work in a directory on one that can (ext4, xfs, btrfs; tmpfs from Linux 6.3 "
            "on), or run as an ordinary user. Doctor itself works in /var/tmp: a session asks of its own directory alone"
        )
    if wall == "limits":
        return _control_groups(facts)
    if wall == "landlock":
        return _landlock(facts)
    if wall in NAMESPACES:
        return _namespaces(wall, facts)
    if facts.filtered:
        return _FILTER
    if wall == "seccomp":
        return f"A kernel with CONFIG_SECCOMP_FILTER is needed; this one is {facts.release}"
    return f"No usual change is known for this wall. Please report the reason, with the kernel's version: {facts.release}"


def _not_linux(facts: Facts) -> str:
    """macOS and Windows: no walls that this package could build, so nothing starts there."""
    system = {"Darwin": "macOS"}.get(facts.system, facts.system)
    return (
        f"{system} has no namespaces, no Landlock and no seccomp: no guest can be walled in, so none is started. "
        "Run kernel_runtime in a Linux virtual machine (for example Lima, Colima, Multipass or WSL 2) and open "
        "its Jupyter server from here"
    )


def _namespaces(wall: str, facts: Facts) -> str:
    remedies = [text for text in (_sysctls(wall, facts), _apparmor(facts), _container(facts)) if text]
    if remedies:
        return "\n".join(remedies)
    if wall == "mount" and (0, 0) < facts.kernel < _MOUNT_KERNEL:
        return f"Linux 5.12 or newer is needed for read-only clones of mounts; this is {facts.release}"
    if facts.filtered:
        return _FILTER
    return (
        "User namespaces are refused, and none of the usual reasons was found. Look for CONFIG_USER_NS=y in "
        f"/boot/config-{facts.release}, for a chroot (namespaces are refused inside one), and for a security "
        "module's message in: sudo dmesg | tail"
    )


def _sysctls(wall: str, facts: Facts) -> str:
    names = []
    if facts.userns_clone is False and facts.uid != 0:
        names.append(("kernel.unprivileged_userns_clone", 1))
    kinds = [kind for kind in dict.fromkeys(("user", _KINDS.get(wall, wall))) if kind in facts.none_allowed]
    names += [(f"user.max_{kind}_namespaces", 15000) for kind in kinds]
    if not names:
        return ""
    where = ", on the container's host" if facts.container else ""
    lines = "".join(f"{name}={value}\\n" for name, value in names)
    return (
        f"A sysctl switches these namespaces off. Switch them on for now and after a restart{where}:\n"
        f"    printf '{lines}' | sudo tee /etc/sysctl.d/99-kernel-runtime.conf\n"
        "    sudo sysctl --system"
    )


def apparmor_profile(interpreter: str) -> str:
    """A profile that lets one program use user namespaces, and confines it in nothing else."""
    return f"""abi <abi/4.0>,
include <tunables/global>

profile kernel-runtime {_quoted(interpreter)} flags=(unconfined) {{
  userns,
  include if exists <local/kernel-runtime>
}}"""


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path


def _apparmor(facts: Facts) -> str:
    if not facts.apparmor_userns or (facts.uid == 0 and not facts.container):
        return ""
    if facts.container:
        return (
            "AppArmor on the container's host takes the power out of user namespaces. No profile in the image can "
            "change that; on the host, for all programs:\n"
            "    sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    lines = " \\\n".join(
        f"        '{line}'" for line in apparmor_profile(facts.interpreter).splitlines() if line
    )
    shared = (
        f"\nIt holds for every program run by {facts.interpreter}. To narrow it to one environment, make that with "
        "`python3 -m venv --copies`, so that it has an interpreter of its own, and ask doctor again from there"
        if not facts.virtual or facts.interpreter.startswith("/usr/")
        else ""
    )
    return (
        "AppArmor takes the power out of user namespaces unless a program's profile allows them. Install one for "
        f"this interpreter:\n    printf '%s\\n' \\\n{lines} \\\n        | sudo tee {_PROFILE}\n"
        f"    sudo apparmor_parser -r {_PROFILE}{shared}"
    )


def _container(facts: Facts) -> str:
    if facts.container == "docker":
        return (
            "Docker's default filter refuses unshare and mount, and its masked /proc refuses a new one. Let this "
            "container build walls (it stays unprivileged; --privileged is not needed):\n"
            "    docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \\\n"
            "        --security-opt systempaths=unconfined …"
        )
    if facts.container == "podman":
        return (
            "Podman's masked /proc refuses a new one, and SELinux may refuse the mounts. Let this container build walls:\n"
            "    podman run --security-opt unmask=ALL --security-opt label=disable \\\n"
            "        --security-opt seccomp=unconfined …"
        )
    if facts.container == "kubernetes":
        return (
            "The pod's filter refuses unshare and mount, and its masked /proc refuses a new one. In the pod, with user "
            "namespaces for pods switched on in the cluster:\n"
            "    spec:\n"
            "      hostUsers: false\n"
            "      containers:\n"
            "      - securityContext:\n"
            "          procMount: Unmasked\n"
            "          seccompProfile: {type: Unconfined}\n"
            "          appArmorProfile: {type: Unconfined}\n"
            "The Pod Security Standard `restricted` forbids an unconfined filter: there, use a `Localhost` profile that "
            "adds these calls, or accept the second rung"
        )
    if facts.container == "lxc":
        return "Let the container nest, on its host:\n    lxc config set <container> security.nesting=true && lxc restart <container>"
    if facts.container:
        return (
            "This is a container whose rules refuse namespaces: it must let unshare, mount and pivot_root through its "
            "system-call filter, and leave /proc unmasked"
        )
    return ""


def _landlock(facts: Facts) -> str:
    if (0, 0) < facts.kernel < _LANDLOCK_KERNEL:
        return f"Linux 5.13 or newer is needed, 6.12 for all of it; this is {facts.release}"
    if facts.container:
        return (
            "The container's system-call filter refuses landlock_create_ruleset, or its host has Landlock switched off "
            "(on the host: cat /sys/kernel/security/lsm). Docker 20.10.10 and newer let it pass"
        )
    listed = ",".join(("landlock", *(name for name in facts.lsms if name not in ("capability", "landlock"))))
    if not facts.lsms:
        listed = "landlock,<what /sys/kernel/security/lsm lists, without capability>"
    if facts.wsl == 2:
        return (
            "Landlock is in WSL's own kernel; a custom kernel or command line has switched it off. In "
            "%UserProfile%\\.wslconfig, then `wsl --shutdown`:\n"
            f"    [wsl2]\n    kernelCommandLine = lsm={listed}"
        )
    how = (
        "    sudo grubby --update-kernel=ALL --args=lsm=" + listed
        if facts.distribution in ("fedora", "rhel", "centos", "rocky", "almalinux")
        else "    echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX lsm="
        + listed
        + "\"' | sudo tee /etc/default/grub.d/landlock.cfg\n    sudo update-grub"
    )
    return f"Landlock is not among the kernel's security modules. Add it, and restart the machine:\n{how}"


def _control_groups(facts: Facts) -> str:
    if facts.container == "docker":
        return (
            "The container's control groups are read-only. Docker 28 and newer, with cgroup v2:\n"
            "    docker run --security-opt writable-cgroups=true …"
        )
    if facts.container == "podman":
        return "The container's control groups are read-only:\n    podman run --security-opt unmask=/sys/fs/cgroup …"
    if facts.container == "kubernetes":
        return (
            "A pod's control groups are read-only. Give the pod itself limits, so that one guest cannot starve the node:\n"
            "    resources: {limits: {memory: 4Gi, cpu: '2'}}"
        )
    if facts.systemd and facts.uid != 0:
        return (
            "Have systemd delegate a control group. For one program:\n"
            "    systemd-run --user --scope -p Delegate=yes jupyter lab\n"
            "For a service, in its unit:\n"
            "    [Service]\n    Delegate=yes\n"
            "If the processor cannot be limited that way, delegate that controller to users, too:\n"
            "    sudo mkdir -p /etc/systemd/system/user@.service.d\n"
            "    printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
            "sudo tee /etc/systemd/system/user@.service.d/delegate.conf\n"
            "    sudo systemctl daemon-reload"
        )
    if facts.systemd:
        return (
            "Have systemd delegate a control group, in the service's unit:\n    [Service]\n    Delegate=yes"
        )
    group = "/sys/fs/cgroup/kernel-runtime"
    return (
        "Make a control group (cgroup v2) that this user may write to, and start the program in it:\n"
        f"    sudo mkdir -p {group}/front\n"
        f"    echo +memory +pids +cpu | sudo tee /sys/fs/cgroup/cgroup.subtree_control {group}/cgroup.subtree_control\n"
        f"    sudo chown -R $USER {group}\n"
        f"    echo $$ | sudo tee {group}/front/cgroup.procs"
    )
