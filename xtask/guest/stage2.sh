#!/bin/bash
# The guest's init, second stage: comes with the job. Sets the system up, loads the module, runs the job, checks
# the kernel's log and packs /out with the exit code. The job finds an empty disk in FF_SCRATCH, and in FF_BOOT how many times
# the guest has booted. One that resets the guest leaves the kernel's log so far in /out/dmesg.BOOT.txt.

mkdir -p /dev/pts /dev/shm /out
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777,size=75% tmp /tmp
mount -t tmpfs -o mode=755 run /run
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -sfn /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
ip link set lo up
hostname freezeframe
ulimit -l unlimited
ulimit -n 65536
ulimit -c 0
sysctl -q -w kernel.printk="4 4 1 7" vm.overcommit_memory=1 kernel.watchdog_thresh=30 2>/dev/null
export HOME=/root DM_DISABLE_UDEV=1 PATH="/ff/bin:$PATH"
# shellcheck source=/dev/null
. /ff/env

# Who booted it waits for this line: an emulated guest may hang before it comes here.
echo "guest: begins"
# What the kernel says from here on counts; what it said while booting does not.
echo "freezeframe-guest: start" >/dev/kmsg
taint_before=$(cat /proc/sys/kernel/tainted)

code=0
if [ -n "$FF_MODULE" ]; then
    # The arguments are words on purpose.
    # shellcheck disable=SC2086
    if ! insmod "$FF_MODULE" $FF_MODULE_ARGS; then
        echo "guest: insmod $FF_MODULE $FF_MODULE_ARGS failed; the kernel says:" >&2
        dmesg | tail -n 20 >&2
        code=123
    fi
fi

if [ "$code" = 0 ]; then
    cd /job || exit
    chmod +x run.sh
    ./run.sh
    code=$?
fi
cd /

dmesg >/out/dmesg.txt
logs=(/out/dmesg*.txt)
bad='BUG:|WARNING:|Oops|general protection|rcu.*stall|hung task|blocked for more than|Call Trace|kernel BUG|refcount_t'
bad="$bad|list_(add|del) corruption|page dumped|Bad page|Bad rss-counter|unable to handle"
# What only the debug kernel says. kmemleak says nothing in a job unless it is at a loss: it is read below.
bad="$bad|KASAN|UBSAN|ODEBUG|INFO: lockdep|INFO: trying to register|INFO: task .* blocked|kmemleak:|pagealloc:"
bad="$bad|possible (circular|recursive|irq) lock|inconsistent lock state|suspicious RCU usage|DEBUG_LOCKS_WARN_ON"
# Whoever is killed for want of memory gets a report with a stack in it, which is no complaint.
found=$(sed -s -e '1,/freezeframe-guest: start/d' -e '/ invoked oom-killer: /,/<\/TASK>/{/Call Trace:/d}' "${logs[@]}" |
    grep -E "$bad")
taint_after=$(cat /proc/sys/kernel/tainted)
# The bits of a bad page (5), an oops (7), a warning (9) and a soft lockup (14).
mask=$((32 + 128 + 512 + 16384))
if [ -z "$found" ] && [ $((taint_after & mask)) != $((taint_before & mask)) ]; then
    found="the kernel was tainted: $taint_before before the job, $taint_after after it"
fi
if [ -z "$found" ] && grep -qs 'debug_locks: *0' /proc/lockdep_stats; then
    found="lockdep was off at the end: it had complained while booting, or it ran out of room"
fi
leaks=/sys/kernel/debug/kmemleak
if [ -e "$leaks" ]; then
    # An object counts only when a second scan finds it unchanged, and five seconds old.
    for _ in 1 2; do
        sleep 6
        echo scan >"$leaks" || found+=$'\nkmemleak was off at the end'
    done
    cat "$leaks" >/out/kmemleak.txt
    # The module's functions lose their names when it is unloaded; no other module is ever loaded here.
    ours=$(grep -E 'freezeframe|\bff_|^ +0xffffffff[ac]' /out/kmemleak.txt | sort | uniq -c)
    if [ -n "$ours" ]; then
        found+=$'\nleaks, all of them in kmemleak.txt:\n'"$ours"
    fi
fi
if [ -n "$found" ]; then
    echo "guest: the kernel complained during the job (exit code of the job: $code):"
    printf '%s\n' "$found" | head -n 20
    code=124
fi

echo "$code" >/ff/exit-code
tar -c -C / -f "$FF_OUT_DISK" ff/exit-code out || echo "guest: /out does not fit on the way back" >&2
sync
