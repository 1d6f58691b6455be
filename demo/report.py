"""Puts the demo's figures side by side, and fails where they do not hold."""

import argparse
import json
import statistics
import sys


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--gdb", required=True)
    parser.add_argument("--window", required=True)
    parser.add_argument("--cow-breaks", required=True)
    parser.add_argument("--windows", required=True)
    parser.add_argument("--forks", required=True)
    parser.add_argument("--take", nargs=2, type=int, required=True)
    parser.add_argument("--fork-times", required=True)
    parser.add_argument("--result", required=True)
    return parser.parse_args()


def read_client(path):
    with open(path) as log:
        return [tuple(map(int, line.split())) for line in log]


def longest_gap(rounds, begin, end):
    """The longest time between two answers, of those that overlap with begin..end."""
    answers = [acknowledged for _, _, acknowledged in rounds]
    gaps = [b - a for a, b in zip(answers, answers[1:]) if b >= begin and a <= end]
    return max(gaps, default=0)


def answer(path):
    """The series of a stored answer of Prometheus."""
    with open(path) as file:
        return json.load(file)["data"]["result"]


def numbers(path):
    with open(path) as file:
        return [int(line) for line in file]


def cow_breaks(series):
    """The COW-break histogram as [(upper bound, breaks in the bucket)]."""
    bounds = sorted((float(one["metric"]["le"]), int(float(one["value"][1]))) for one in series)
    counts, below = [], 0
    for bound, cumulative in bounds:
        counts.append((bound, cumulative - below))
        below = cumulative
    return counts


def seconds(value):
    if value == float("inf"):
        return "more"
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def spread(values):
    """Median and range of microseconds, in milliseconds."""
    low, middle, high = (value / 1e3 for value in (min(values), statistics.median(values), max(values)))
    return f"median of {len(values)}: {middle:.3f} ms (from {low:.3f} to {high:.3f})"


def print_histogram(counts):
    most = max((count for _, count in counts), default=0)
    for bound, count in counts:
        if count:
            print(f"  up to {seconds(bound):>8}  {count:>7}  {'#' * max(1, 40 * count // most)}")
    print(f"  {sum(count for _, count in counts)} pages were copied because a writer wanted them")


def main():
    options = arguments()
    with open(options.manifest) as file:
        manifest = json.load(file)
    with open(options.gdb) as file:
        found = json.loads(next(line for line in file if line.startswith("FOUND "))[len("FOUND ") :])
    rounds = read_client(options.client)
    instant = manifest["instant_ns"]
    window_us = 1e6 * float(answer(options.window)[0]["value"][1])
    windows_us = [window_us] + [window / 1e3 for window in numbers(options.windows)]
    forks_us = numbers(options.forks)

    # At the instant Redis stands still: it has processed all that it had acknowledged, and nothing sent later.
    acknowledged = max((value for value, _, acked_at in rounds if acked_at <= instant), default=0)
    sent = max((value for value, sent_at, _ in rounds if sent_at <= instant), default=0)
    quiet = longest_gap(rounds, rounds[0][2], options.take[0] - 1)
    # The window's ends are not in the manifest, but the instant is inside it.
    around_take = longest_gap(rounds, instant - int(window_us * 1e3), instant + int(window_us * 1e3))
    during_take = longest_gap(rounds, *options.take)
    with open(options.fork_times) as file:
        during_fork = max(longest_gap(rounds, *map(int, line.split())) for line in file)

    window_median, fork_median = statistics.median(windows_us), statistics.median(forks_us)
    print(f"  the window of this snapshot            {window_us / 1e3:9.3f} ms")
    print(f"  the window, {spread(windows_us)}")
    print(f"  Redis' fork, {spread(forks_us)}")
    print(f"  the client's longest gap: before       {quiet / 1e6:9.3f} ms")
    print(f"                            the window   {around_take / 1e6:9.3f} ms")
    print(f"                            whole take   {during_take / 1e6:9.3f} ms")
    print(f"                            a fork       {during_fork / 1e6:9.3f} ms")
    print(f"  writes of the client                   {2 * len(rounds):9d}")
    print()
    print("COW breaks, from Prometheus")
    histogram = cow_breaks(answer(options.cow_breaks))
    print_histogram(histogram)
    print()
    print("The counter, which the client raises all the time")
    print(f"  at the instant: acknowledged {acknowledged}, in the core {found['counter']}, sent {sent}")
    print(f"  the client's last: {rounds[-1][0]}")
    print(f"  `written before the snapshot` is in the core {found['before']} times, `… after …` {found['after']}")

    failures = []
    if found["counter"] is None or not acknowledged <= found["counter"] <= sent:
        failures.append("the core's counter is not the one of the instant")
    if not found["before"] or found["after"]:
        failures.append("the core does not hold the note as it was at the instant")
    if not sum(count for _, count in histogram):
        failures.append("Prometheus saw no COW break")
    if max(window_median, window_us) >= fork_median:
        failures.append("the windows are not shorter than Redis' forks")
    with open(options.result, "w") as file:
        json.dump(
            {
                "window_us": window_us,
                "windows_us": windows_us,
                "forks_us": forks_us,
                "gap_us": {
                    "before": quiet / 1e3,
                    "window": around_take / 1e3,
                    "take": during_take / 1e3,
                    "fork": during_fork / 1e3,
                },
                "cow_breaks": [{"le": str(bound), "count": count} for bound, count in histogram],
                "counter": {"acknowledged": acknowledged, "core": found["counter"], "sent": sent},
                "failures": failures,
            },
            file,
            indent=2,
        )
    for failure in failures:
        print(f"demo: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
