#!/bin/sh
# A job that makes the initramfs of a guest whose root is on a layer, as a machine with Freezeframe makes its own. Comes with
# `initramfs-tools`, the files of the package, and `config`, the kernel's configuration.
set -eu
release=$(uname -r)
install -m 755 /ff/bin/freezeframe /usr/bin/freezeframe
cp -r initramfs-tools/. /usr/share/initramfs-tools/
mkdir -p /boot
cp config "/boot/config-$release"
# What a machine finds by itself: the disks that are neither built in nor the root's.
printf '%s\n' virtio_pci virtio_blk >>/etc/initramfs-tools/modules
printf '%s\n' MODULES=list COMPRESS=zstd COMPRESSLEVEL=1 >/etc/initramfs-tools/conf.d/guest
freezeframe layer add /dev/nvme0n1 --name root --at-boot
mkinitramfs -o /out/initrd.img "$release"
cp /etc/freezeframe/layers /out/layers
