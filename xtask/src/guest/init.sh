#!/bin/sh
# The guest's init, second half: makes a usable system, runs the job, packs /out, powers off.
# The stub in the image unpacked the job's disk to /ff: init, env, job/, bin/, module/, root/.
# The result is the tar on the disk `out`; its last member is `.ff-status`. If that is missing, the guest died.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=dumb LANG=C.UTF-8 DM_DISABLE_UDEV=1
stty -onlcr 2>/dev/null

mkdir -p /dev/pts /dev/shm /out /tmp /run
mount -t devpts devpts /dev/pts
for dir in /tmp /run /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs "$dir"; done
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for fd in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sfn "/proc/self/${fd#*:}" "/dev/${fd%%:*}"; done
ln -sfn /proc/self/mounts /etc/mtab
hostname guest
ip link set lo up
ulimit -l unlimited
ulimit -n 65536
sysctl -q -w kernel.panic_on_oops=1 kernel.hung_task_timeout_secs=120 vm.overcommit_memory=1 kernel.printk='5 4 1 7'
[ -e /sys/kernel/mm/transparent_hugepage/enabled ] || echo "guest: this kernel has no THP"

for serial in /sys/block/vd*/serial; do
	[ "$(cat "$serial")" = out ] && out=${serial#/sys/block/} && out=/dev/${out%/serial}
done

set -a
. /ff/env
set +a
[ -d /ff/root ] && cp -a /ff/root/. /
[ -d /ff/bin ] && cp /ff/bin/* /usr/local/bin/

cat >/ff/dmesg-bad <<'END'
BUG:|WARNING:|Oops|general protection|stall|hung task|blocked for more than|soft lockup|hard LOCKUP|Call Trace|kernel BUG|refcount_t|list_(add|del) corruption|page dumped|Bad page|Bad rss|unable to handle|possible recursive locking|lockdep
END

code=
if [ -n "$FF_MODULE" ]; then
	# shellcheck disable=SC2086 # the arguments are several words by intent
	insmod "$FF_MODULE" $FF_MODULE_ARGS || {
		echo "guest: cannot load the module:" && dmesg | tail -n 20
		code=1
	}
fi
if [ -z "$code" ]; then
	cd /ff/job || exit 1
	chmod +x run.sh
	setsid --ctty --wait ./run.sh </dev/ttyS0
	code=$?
	[ "$code" -eq 0 ] || echo "guest: run.sh exited with $code"
fi

# What the kernel said decides too: no job passes that left a complaint there.
cd /
dmesg >/out/dmesg.txt
if [ -s /ff/job/dmesg.allow ]; then
	grep -Ev -f /ff/job/dmesg.allow /out/dmesg.txt >/ff/dmesg
else
	cp /out/dmesg.txt /ff/dmesg
fi
if grep -Eq -f /ff/dmesg-bad /ff/dmesg; then
	echo "guest: the kernel complained (all of it is in dmesg.txt):"
	grep -En -f /ff/dmesg-bad -A 25 /ff/dmesg | head -n 80
	code=124
fi
sync
echo "$code" >/ff/.ff-status
tar -cf "$out" --sparse --warning=no-file-ignored -C /out . -C /ff .ff-status || echo "guest: cannot pack /out"
sync
stty onlcr 2>/dev/null
echo o >/proc/sysrq-trigger
sleep 60
