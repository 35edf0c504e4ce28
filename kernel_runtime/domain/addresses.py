"""Which addresses are the open internet, and what the others are called.

An IPv6 address that carries an IPv4 one (mapped, 6to4, NAT64, Teredo) is never taken for what it carries:
who translates it decides where it leads.
"""

from __future__ import annotations

import ipaddress

#: Answers that the machines of a cloud are configured with, credentials among them.
METADATA = "a cloud's metadata service"
LOOPBACK = "this machine itself"
LINK_LOCAL = "the network that this machine is plugged into"
PRIVATE = "a private network"
_EMBEDDED = "an IPv4 address inside an IPv6 one"
_NOBODY = "no machine on the internet"

_BY_NETWORK = {
    METADATA: ("169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32", "168.63.129.16/32",
               "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128"),
    LOOPBACK: ("127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128"),
    LINK_LOCAL: ("169.254.0.0/16", "fe80::/10"),
    PRIVATE: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "fc00::/7",
              "fec0::/10"),
    _EMBEDDED: ("::ffff:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"),
    _NOBODY: ("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24",
              "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
}  # fmt: skip
_KINDS = [
    (ipaddress.ip_network(network), kind) for kind, networks in _BY_NETWORK.items() for network in networks
]
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def why_closed(address: str) -> str:
    """What an address is if it is not the open internet; empty when it is. ``ValueError``: no address."""
    parsed = ipaddress.ip_address(address)
    for network, kind in _KINDS:
        if parsed.version == network.version and parsed in network:
            return kind
    if parsed.version == 6 and parsed not in _GLOBAL_UNICAST:
        return _NOBODY
    return "" if parsed.is_global and not parsed.is_multicast else _NOBODY
