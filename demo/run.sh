#!/bin/bash
# The demo's job: a real Redis under write load, Prometheus watching, one snapshot, and what came of it.
set -euo pipefail

work=/var/tmp/demo
image=/out/redis.tar
# In memory: a client that waits for the disk would measure the disk.
client_log=/tmp/client.log
mkdir -p "$work"
trap 'cp "$work"/*.log "$client_log" /out/' EXIT

say() { printf '\n== %s\n' "$*"; }

# Waits up to $1 seconds for the rest of the arguments to succeed.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            echo "demo: gave up waiting for: $*" >&2
            return 1
        fi
        sleep 0.2
    done
}

# Prometheus' answer to the expression $1.
ask() { curl -sf --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query; }

now() { python3 -c 'import time; print(time.monotonic_ns())'; }

say "Redis with 200 MB, on kernel $(uname -r)"
redis-server --save "" --appendonly no --enable-debug-command local --dir "$work" --daemonize yes \
    --logfile "$work/redis.log" --pidfile "$work/redis.pid" >/dev/null
wait_for 30 redis-cli ping
redis-cli debug populate 200000 key 1000 >/dev/null
redis=$(cat "$work/redis.pid")
redis-cli info memory | grep -E '^used_memory_(human|rss_human)'

say "freezeframe serve, and a Prometheus that scrapes it"
freezeframe serve >"$work/serve.log" 2>&1 &
wait_for 30 curl -sf http://127.0.0.1:9188/metrics
prometheus --config.file=prometheus.yml --storage.tsdb.path="$work/prometheus" --log.level=warn \
    >"$work/prometheus.log" 2>&1 &
wait_for 60 curl -sf http://127.0.0.1:9090/-/ready
curl -s http://127.0.0.1:9188/metrics | grep -c '^freezeframe_' | sed 's/$/ series/'

say "A client that keeps writing"
python3 client.py "$client_log" "$work/stop" &
client=$!
sleep 5
redis-cli set demo:note "written before the snapshot, at second $SECONDS" >/dev/null
sleep 1

say "freezeframe take --pid $redis -o $image"
begin=$(now)
# A bar is for people; what is printed here is read later.
freezeframe take --pid "$redis" -o "$image" 2> >(cat >&2)
end=$(now)
redis-cli set demo:note "written after the snapshot, at second $SECONDS" >/dev/null
# Time for the writers to break copy-on-write, and for Prometheus to see it.
sleep 4
ask freezeframe_window_duration_seconds_sum >"$work/window.json"
ask 'sum by (le) (freezeframe_cow_break_duration_seconds_bucket)' >"$work/cow.json"

# What was snapshotted or forked and not written since is write-protected already, and the next one has less to do.
# So before each, every value is written: all find the same memory.
rewrite="for i = ARGV[1], ARGV[1] + 999 do redis.call('setrange', 'key:' .. i, 0, 'v') end return 'written'"
write_everything() {
    local first
    for ((first = 0; first < 200000; first += 1000)); do
        printf 'EVAL "%s" 0 %d\n' "$rewrite" "$first"
    done | redis-cli | sort | uniq -c | sed 's/^ *200 written$/all 200,000 values written/'
}

say "Redis' own fork, and four more windows, in turn, under the same load and with everything written before each"
for round in 1 2 3 4 5; do
    write_everything
    begin_fork=$(now)
    redis-cli bgsave >/dev/null
    echo "$begin_fork $(now)" >>"$work/fork-times"
    wait_for 120 sh -c 'redis-cli info persistence | grep -q rdb_bgsave_in_progress:0'
    fork=$(redis-cli info stats | tr -d '\r' | sed -n 's/^latest_fork_usec://p')
    echo "$fork" >>"$work/forks"
    echo "BGSAVE: latest_fork_usec:$fork"
    [[ $round == 5 ]] && break
    write_everything
    freezeframe take --pid "$redis" --json >"$work/take.json"
    jq -r '"take: window_ns " + (.window_ns | tostring)' "$work/take.json"
    jq .window_ns "$work/take.json" >>"$work/windows"
done
touch "$work/stop"
wait "$client"

say "The image, opened with standard tools"
tar -tvf "$image"
tar -C "$work" -xf "$image"
core=$(find "$work" -name '*core*' -type f | head -n 1)
gdb -q -batch -ex "core-file $core" -x find.py >"$work/gdb.log" 2>&1 || {
    cat "$work/gdb.log" >&2
    exit 1
}

say "What came of it"
manifest=$(find "$work" -name manifest.json | head -n 1)
python3 report.py --manifest "$manifest" --client "$client_log" --gdb "$work/gdb.log" \
    --window "$work/window.json" --cow-breaks "$work/cow.json" --windows "$work/windows" --forks "$work/forks" \
    --take "$begin" "$end" --fork-times "$work/fork-times" --result /out/result.json

redis-cli shutdown nosave || true
