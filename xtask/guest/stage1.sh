#!/bin/sh
# The guest's init, first stage: lives in the image. Finds the job's disks, unpacks the job, hands over to the second
# stage, which comes with the job so that it can change without a new image.
#
# A job that resets its guest boots again, with all that is on its disks, when it asked for that: /ff/again was there, and
# fewer boots are behind it than /job/boots allows. Any other reset (a panic) is the end, without an exit code.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# The guest is over, and all that is written stays.
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

begin() { # the first boot: unpacks the job from disk $1
    mkdir -p /ff
    tar -x --no-same-owner -f "$1" -C / && echo 1 >/ff/boot && sync
}

begin_again() { # a further boot, if the job asked for it
    if ! [ -e /ff/again ]; then
        echo "vm-init: the guest was reset, and nobody had asked for that" >&2
        return 1
    fi
    rm /ff/again
    boot=$(($(cat /ff/boot) + 1))
    allowed=$(cat /job/boots)
    if [ "$boot" -gt "$allowed" ]; then
        echo "vm-init: the job may boot $allowed times, and asked for more" >&2
        return 1
    fi
    echo "$boot" >/ff/boot && sync
}

if job=$(disk in) && out=$(disk out) && scratch=$(disk scratch); then
    if [ -e /ff/boot ]; then
        begin_again
    else
        begin "$job"
    fi && {
        export FF_OUT_DISK="$out" FF_SCRATCH="$scratch"
        FF_BOOT=$(cat /ff/boot)
        export FF_BOOT
        bash /ff/stage2
    }
fi
power_off
