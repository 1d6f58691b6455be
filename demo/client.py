"""A client that keeps writing to Redis and remembers when each answer came.

Each round overwrites a random key of 1,000 bytes and then the counter `demo:counter`. The log has one line per
counter: its value, and when it was sent and acknowledged, in nanoseconds of CLOCK_MONOTONIC, the clock that the
module stamps its phases with.
"""

import random
import socket
import sys
import time

KEYS = 200_000
VALUE = b"x" * 1000


def command(*words):
    """Encodes one command as Redis' protocol wants it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


def main(log_path, stop_path):
    connection = socket.create_connection(("127.0.0.1", 6379))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answers = connection.makefile("rb")
    with open(log_path, "w", buffering=1 << 16) as log:
        value = 0
        while value % 64 or not exists(stop_path):
            value += 1
            key = b"key:%d" % random.randrange(KEYS)
            text = b"FFCOUNTER:%020d:written by the demo's client" % value
            sent = time.monotonic_ns()
            connection.sendall(command(b"SET", key, VALUE) + command(b"SET", b"demo:counter", text))
            for _ in range(2):
                answer = answers.readline()
                if answer != b"+OK\r\n":
                    sys.exit(f"client: Redis answered {answer!r}")
            log.write(f"{value} {sent} {time.monotonic_ns()}\n")


def exists(path):
    try:
        open(path).close()
    except FileNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
