"""For gdb: looks in an opened core for the demo's keys, and prints what it finds as JSON on one line.

gdb -q -batch -ex "core-file CORE" -x find.py
"""

import json
import re

import gdb

COUNTER = b"FFCOUNTER:"
DIGITS = 20
BEFORE = b"written before the snapshot"
AFTER = b"written after the snapshot"


def sections():
    """The address ranges that the core holds."""
    for line in gdb.execute("info files", to_string=True).splitlines():
        match = re.match(r"\s*(0x[0-9a-f]+) - (0x[0-9a-f]+) is load", line)
        if match:
            yield int(match.group(1), 16), int(match.group(2), 16)


def occurrences(needle):
    """The addresses of `needle` in the core's memory."""
    inferior = gdb.selected_inferior()
    for start, end in sections():
        at = start
        while at < end:
            try:
                at = inferior.search_memory(at, end - at, needle)
            except gdb.MemoryError:
                break
            if at is None:
                break
            yield at
            at += len(needle)


def counters():
    """Every counter value that is spelled out anywhere in memory."""
    inferior = gdb.selected_inferior()
    for at in occurrences(COUNTER):
        digits = bytes(inferior.read_memory(at + len(COUNTER), DIGITS))
        if digits.isdigit():
            yield int(digits)


print(
    "FOUND "
    + json.dumps(
        {
            "counter": max(counters(), default=None),
            "before": sum(1 for _ in occurrences(BEFORE)),
            "after": sum(1 for _ in occurrences(AFTER)),
        }
    )
)
