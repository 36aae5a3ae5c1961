# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that tests start: no two tests of a machine are given the same one."""
import random
import socket

# Below what the kernel gives to clients.  The upper part is in blocks, for agents that pick ports for instances.
SINGLE, BLOCKS, BLOCK = range(10000, 30000), range(30000, 32700), 60
dice = random.SystemRandom()
claims = []


def claimed(port):
    """Whether nobody had claimed it; now it is this process's own until it ends."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0brume-test-port-{port}")
    except OSError:
        claim.close()
        return False
    claims.append(claim)
    return True


def is_free(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def claim_port():
    """A port of 127.0.0.1 for a server."""
    while True:
        port = dice.choice(SINGLE)
        if is_free(port) and claimed(port):
            return port


def claim_block():
    """The first and the last of some ports for an agent: what is published by a firewall's rule alone, no bind() finds taken."""
    starts = [*BLOCKS[:-BLOCK:BLOCK]]
    dice.shuffle(starts)
    for start in starts:
        if claimed(start):
            return start, start + BLOCK - 1
    raise AssertionError("all blocks of ports are claimed")
