"""The same as places.c, in Python."""

import ctypes
import mmap
import os
import threading
import time

SERVE, DESCEND, WANDER, AWAIT_BYTE, AWAIT_SIGNAL, SLEEP_ON, SPIN, WALK, CLIMB = range(1, 10)
THREADS, WORDS, PLACES = 6, 64, 8
TID, DEPTH, COUNT = range(3)

memory = mmap.mmap(-1, 8 * WORDS * 8)
words = memoryview(memory).cast("Q")
pair = {"first": 0, "second": 0}
greeting = "frozen in time"
primes = [2, 3, 5, 7]
nobody = threading.Condition()


def await_byte(record, level):
    words[record + PLACES + words[record + DEPTH]] = AWAIT_BYTE << 32 | level
    words[record + DEPTH] += 1
    reader, _writer = os.pipe()
    os.read(reader, 1)


def await_signal(record, level):
    words[record + PLACES + words[record + DEPTH]] = AWAIT_SIGNAL << 32 | level
    words[record + DEPTH] += 1
    with nobody:
        while True:
            nobody.wait()


def sleep_on(record, level):
    words[record + PLACES + words[record + DEPTH]] = SLEEP_ON << 32 | level
    words[record + DEPTH] += 1
    while True:
        time.sleep(1000)


def spin(record, level):
    words[record + PLACES + words[record + DEPTH]] = SPIN << 32 | level
    words[record + DEPTH] += 1
    before = after = 0
    while True:
        before += 1
        pair["first"] += 1
        words[record + COUNT] += 1
        pair["second"] += 1
        after += 1


def climb(record, level):
    words[record + PLACES + words[record + DEPTH]] = CLIMB << 32 | level
    words[record + DEPTH] += 1
    if level > 0:
        climb(record, level - 1)
    words[record + DEPTH] -= 1


def walk(record, level):
    words[record + PLACES + words[record + DEPTH]] = WALK << 32 | level
    words[record + DEPTH] += 1
    while True:
        for height in range(24):
            climb(record, height)


def descend(record, level, wait):
    words[record + PLACES + words[record + DEPTH]] = DESCEND << 32 | level
    words[record + DEPTH] += 1
    twice, name = 2 * level, f"level {level}"
    if level == 0:
        wait(record, level)
    else:
        wander(record, level - 1, wait)
    return twice, name


def wander(record, level, wait):
    words[record + PLACES + words[record + DEPTH]] = WANDER << 32 | level
    words[record + DEPTH] += 1
    twice, name = 2 * level, f"level {level}"
    if level == 0:
        wait(record, level)
    else:
        descend(record, level - 1, wait)
    return twice, name


WAITS = [await_byte, await_signal, sleep_on, spin, walk, sleep_on]


def serve(number):
    record = number * WORDS
    words[record + TID] = threading.get_native_id()
    words[record + PLACES + words[record + DEPTH]] = SERVE << 32 | number
    words[record + DEPTH] += 1
    descend(record, 3 + 2 * number, WAITS[number])


for number in range(1, THREADS):
    threading.Thread(target=serve, args=[number], daemon=True).start()
    # The functions that it is in before it waits.
    while words[number * WORDS + DEPTH] < 1 + (3 + 2 * number + 1) + 1:
        time.sleep(0.001)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
print(f"records {address} count {THREADS}", flush=True)
serve(0)
