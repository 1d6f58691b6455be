"""Puts the demo's figures side by side, and fails where they do not hold."""

import argparse
import json
import sys
import time
import urllib.parse
import urllib.request


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--gdb", required=True)
    parser.add_argument("--take", nargs=2, type=int, required=True)
    parser.add_argument("--bgsave", nargs=2, type=int, required=True)
    parser.add_argument("--fork-usec", type=int, required=True)
    parser.add_argument("--prometheus", required=True)
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


def query(base, expression):
    url = f"{base}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)["data"]["result"]


def cow_breaks(base):
    """The COW-break histogram as [(upper bound, breaks in the bucket)]."""
    expression = "sum by (le) (freezeframe_cow_break_duration_seconds_bucket)"
    for _ in range(10):
        series = query(base, expression)
        if series and any(float(one["value"][1]) > 0 for one in series):
            break
        time.sleep(1)
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
            return f"{value * factor:g} {unit}"
    return f"{value * 1e9:g} ns"


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
    window_us = 1e6 * float(query(options.prometheus, "freezeframe_window_duration_seconds_sum")[0]["value"][1])

    # At the instant Redis stands still: it has processed all that it had acknowledged, and nothing sent later.
    acknowledged = max((value for value, _, answer in rounds if answer <= instant), default=0)
    sent = max((value for value, sent_at, _ in rounds if sent_at <= instant), default=0)
    quiet = longest_gap(rounds, rounds[0][2], options.take[0] - 1)
    # The window's ends are not in the manifest, but the instant is inside it.
    around_take = longest_gap(rounds, instant - int(window_us * 1e3), instant + int(window_us * 1e3))
    during_take = longest_gap(rounds, *options.take)
    during_fork = longest_gap(rounds, options.bgsave[0], options.bgsave[1])

    print(f"  the window                             {window_us / 1e3:9.3f} ms")
    print(f"  Redis' own fork (latest_fork_usec)     {options.fork_usec / 1e3:9.3f} ms")
    print(f"  the client's longest gap: before       {quiet / 1e6:9.3f} ms")
    print(f"                            the window   {around_take / 1e6:9.3f} ms")
    print(f"                            whole take   {during_take / 1e6:9.3f} ms")
    print(f"                            BGSAVE       {during_fork / 1e6:9.3f} ms")
    print(f"  writes of the client                   {2 * len(rounds):9d}")
    print()
    print("COW breaks, from Prometheus")
    histogram = cow_breaks(options.prometheus)
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
    if window_us >= options.fork_usec:
        failures.append("the window is not shorter than Redis' fork")
    with open(options.result, "w") as file:
        json.dump(
            {
                "window_us": window_us,
                "fork_us": options.fork_usec,
                "gap_us": {
                    "before": quiet / 1e3,
                    "window": around_take / 1e3,
                    "take": during_take / 1e3,
                    "bgsave": during_fork / 1e3,
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
