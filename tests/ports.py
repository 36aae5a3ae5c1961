# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that tests start: no two tests of a machine are given the same one."""
import random
import socket

# Below what the kernel gives to clients, and what an agent picks for instances.
RANGE = (10000, 30000)
dice = random.SystemRandom()
claims = []


def claim_port():
    """A port of 127.0.0.1 that is free, and this process's own until it ends."""
    while True:
        port = dice.randrange(*RANGE)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0brume-test-port-{port}")
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        claims.append(claim)
        return port
