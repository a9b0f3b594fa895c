"""ROS domains that no two runs on one machine share."""

from __future__ import annotations

import errno
import functools
import os
import socket
from collections.abc import Sequence

from lewm_ros.config import UserError

DOMAINS = range(1, 102)
"""Domain 0 is everybody's; the ports of those above 101 are the operating system's ephemeral ones."""


class DomainError(UserError):
    """Every domain is taken."""


@functools.cache
def own_domain(domains: Sequence[int] = DOMAINS) -> int:
    """A domain id that is held until this process ends, in whatever way. Children are given it as ROS_DOMAIN_ID.

    Args:
        domains: ids to choose from.

    Raises:
        DomainError: other processes hold all of them.
    """
    # Not always from the first on, so that nodes that have outlived a killed run are left alone.
    first = os.getpid() % len(domains)
    # The socket's address is abstract: it leaves no file behind, and is seen just as far as the domain's ports are.
    with socket.socket(socket.AF_UNIX) as holder:
        for domain in (*domains[first:], *domains[:first]):
            try:
                holder.bind(f"\0lewm_ros_domain_{domain}")
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                holder.detach()  # it closes with the process
                return domain
    raise DomainError(
        f"ROS domains {domains[0]} to {domains[-1]} are all taken by other runs; end some, or set ROS_DOMAIN_ID"
    )
