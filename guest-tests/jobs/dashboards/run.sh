#!/bin/bash
# The dashboard and the alerts against the Prometheus of a real run: every query of every panel must have an answer,
# every metric a panel and a line in docs/metrics.md, and every panel a metric.
set -euo pipefail

work=/var/tmp/dashboards
mkdir -p "$work"
trap 'cp "$work"/*.log /out/' EXIT
failures=0
fail() {
    echo "dashboards: $*" >&2
    failures=$((failures + 1))
}

wait_for() { # SECONDS COMMAND…
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            echo "dashboards: gave up waiting for: $*" >&2
            exit 1
        fi
        sleep 0.2
    done
}

ask() { # EXPRESSION: Prometheus' answer
    curl -sf --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query
}

holds() { # EXPRESSION: whether Prometheus' answer is not empty
    [ "$(ask "$1" | jq '.data.result | length')" != 0 ]
}

promtool check config prometheus.yml
promtool test rules rules_test.yml
# A filesystem that can be switched, and a store that may overflow.
modprobe -a dm-mod dm-snapshot
printf 'label: gpt\nsize=600MiB\nsize=300MiB\n' | sfdisk -q --wipe never "$FF_SCRATCH"
dmsetup create data --table "0 $(blockdev --getsz "${FF_SCRATCH}1") linear ${FF_SCRATCH}1 0"
mkfs.ext4 -q -F /dev/mapper/data
mkdir -p /mnt/data
mount /dev/mapper/data /mnt/data
dd if=/dev/zero of=/mnt/data/file bs=1M count=32 conv=fsync status=none
freezeframe serve >"$work/serve.log" 2>&1 &
wait_for 240 curl -sf http://127.0.0.1:9188/metrics
curl -sf http://127.0.0.1:9188/metrics | promtool check metrics
prometheus --config.file=prometheus.yml --storage.tsdb.path="$work/prometheus" --log.level=warn \
    >"$work/prometheus.log" 2>&1 &
redis-server --save "" --enable-debug-command local --dir "$work" --daemonize yes --logfile "$work/redis.log" \
    --pidfile "$work/redis.pid" >/dev/null
wait_for 30 redis-cli ping
redis-cli debug populate 20000 key 1000 >/dev/null
wait_for 60 curl -sf http://127.0.0.1:9090/-/ready
# Counters count from their second scrape on.
wait_for 60 holds 'count_over_time(freezeframe_snapshots_total{result="ok"}[10m]) >= 2'

redis=$(cat "$work/redis.pid")
redis-benchmark -q -l -t set -r 20000 -d 1000 -n 1000000 >"$work/benchmark.log" 2>&1 &
benchmark=$!
for round in 1 2 3; do
    freezeframe take --pid "$redis" -o "$work/$round.tar"
    rm "$work/$round.tar"
    sleep 1
done
if freezeframe take --pid 999999 2>>"$work/take.log"; then
    fail "a process that does not exist was snapshotted"
fi
kill "$benchmark"

# The first snapshot with a filesystem makes the series, the second moves them.
for round in 1 2; do
    id=$(freezeframe take --json --pid "$redis" --fs /mnt/data --snapblockdev "${FF_SCRATCH}2" --chunk 8 | jq -r .disk.id)
    fio --name=whole --filename=/mnt/data/file --rw=randwrite --bs=4k --size=16M --io_size=1M --direct=1 --output=/dev/null
    fio --name=parts --filename=/mnt/data/file --rw=write:3584 --bs=512 --offset=16M --size=1M --direct=1 \
        --output=/dev/null
    wait_for 60 holds "freezeframe_write_window_duration_seconds_count == $round"
    wait_for 60 holds "freezeframe_store_exceptions_total{device=\"data\"} >= $round * (256 + 256)"
    [ "$round" = 2 ] || freezeframe commit "$id"
done

names=$(curl -sf http://127.0.0.1:9188/metrics | sed -n 's/^# TYPE \(freezeframe_[a-z_]*\) .*/\1/p' | sort)
queries=$(jq -r '.panels[] | .title as $title | .targets[]? | [$title, .expr] | @tsv' freezeframe.json)
used=$(printf '%s\n' "$queries" | grep -o 'freezeframe_[a-z_]*' | sed -E 's/_(bucket|sum|count)$//' | sort -u)
while read -r name; do
    grep -qx "$name" <<<"$used" || fail "$name has no panel"
    grep -q "^| \`$name\` |" metrics.md || fail "docs/metrics.md does not tell of $name"
done <<<"$names"
while read -r name; do
    grep -qx "$name" <<<"$names" || fail "a panel shows $name, which is not served"
done <<<"$used"
watched=$(grep -o 'freezeframe_[a-z_]*' rules.yml | sed -E 's/_(bucket|sum|count)$//' | sort -u)
while read -r name; do
    grep -qx "$name" <<<"$names" || fail "an alert watches $name, which is not served"
done <<<"$watched"

while IFS=$'\t' read -r title query; do
    query=${query//\$instance/.*}
    # All of this run, however slow the machine is.
    query=${query//\$__range/30m}
    query=${query//\$__rate_interval/30m}
    values=$(ask "$query" | jq -r '[.data.result[].value[1] | select(. != "NaN")] | length')
    echo "$values series: $title: $query"
    [ "$values" != 0 ] || fail "$title has no answer: $query"
done <<<"$queries"

# What must have moved, and what must not.
moved() { # EXPRESSION: true where it yields something
    holds "$1" || fail "does not hold: $1"
}
moved 'freezeframe_snapshots_total{result="ok"} == 5'
moved 'freezeframe_snapshots_total{result="error"} == 1'
moved 'freezeframe_window_duration_seconds_count == 5'
moved 'freezeframe_phase_duration_seconds_count{phase="arm"} == 5'
moved 'freezeframe_write_window_duration_seconds_count == 2'
moved 'freezeframe_filesystem_phase_duration_seconds_count{filesystem="/mnt/data",phase="freeze"} == 2'
moved 'freezeframe_store_exceptions_total{device="data"} >= 2 * (256 + 256)'
moved 'freezeframe_store_copies_total{device="data"} >= 2 * 256'
moved 'freezeframe_store_copies_total{device="data"} < 2 * 300'
moved 'freezeframe_store_used_bytes{device="data"} > 2e6'
moved 'freezeframe_store_overflow_seconds{device="data"} > 0'
moved 'freezeframe_store_overflowed{device="data"} == 0'
moved 'sum(freezeframe_cow_break_duration_seconds_count) > 0'
# A page is armed before it can break, and breaks once.
moved 'sum(freezeframe_cow_break_duration_seconds_count) <= sum(freezeframe_pages_armed_total)'
moved 'sum(freezeframe_pages_armed_total) > 10000'
moved 'sum(freezeframe_image_bytes_total) > 4e7'
moved 'sum(freezeframe_bpf_events_lost_total) == 0'
moved 'freezeframe_bpf_events_total{kind="phase_end"} > 20'
moved 'freezeframe_bpf_events_total{kind="task_still"} > 0'

# A snapshot failed, so this alert fires: the rules are read, and they work.
curl -sf http://127.0.0.1:9090/api/v1/alerts >"$work/alerts.log"
jq -e '.data.alerts[] | select(.labels.alertname == "FreezeframeSnapshotsFail" and .state == "firing")' \
    "$work/alerts.log" >/dev/null || fail "FreezeframeSnapshotsFail does not fire"

((failures == 0))
