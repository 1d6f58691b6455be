#!/bin/sh
# Makes the guest's disk: TARBALL ROOT INIT IMAGE SIZE MODULES…
set -eu
PATH=$PATH:/usr/sbin:/sbin
tarball=$1 root=$2 init=$3 image=$4 size=$5
shift 5
rm -rf "$root"
mkdir -p "$root"
# Nobody but root of the machine may make devices, and the guest's kernel mounts its own.
tar -x --numeric-owner --exclude='./dev/*' -f "$tarball" -C "$root"
mkdir -p "$root/lib/modules" "$root/out"
for modules in "$@"; do
    cp -r "$modules" "$root/lib/modules/"
    depmod -b "$root" "$(basename "$modules")"
done
install -m 755 "$init" "$root/sbin/vm-init"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
rm -f "$image"
truncate -s "$size" "$image"
mkfs.ext4 -q -F -O ^has_journal -d "$root" "$image"
rm -rf "$root"
