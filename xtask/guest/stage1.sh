#!/bin/sh
# The guest's init, first stage: lives in the image. Finds the job's disk, unpacks it, hands over to the second
# stage, which comes with the job so that it can change without a new image.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# The guest is over: all that is written stays, and qemu exits on reset (-no-reboot).
power_off() {
    sync
    echo o >/proc/sysrq-trigger
    sleep 10
    echo b >/proc/sysrq-trigger
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
stty -F /dev/ttyS0 raw -echo 2>/dev/null
# A kernel whose modules come with the job has these built in.
[ -d "/lib/modules/$(uname -r)" ] && modprobe -a virtio_pci virtio_blk

disk() { # SERIAL: prints the device that carries it
    tries=0
    while [ "$tries" -lt 50 ]; do
        for entry in /sys/block/vd*; do
            [ -e "$entry/serial" ] || continue
            if [ "$(cat "$entry/serial")" = "$1" ]; then
                echo "/dev/${entry##*/}"
                return
            fi
        done
        tries=$((tries + 1))
        sleep 0.1
    done
    echo "vm-init: no disk with serial $1" >&2
    return 1
}

if job=$(disk in) && out=$(disk out); then
    export FF_OUT_DISK="$out"
    mkdir -p /ff
    tar -x --no-same-owner -f "$job" -C / && [ -f /ff/stage2 ] && bash /ff/stage2
fi
power_off
