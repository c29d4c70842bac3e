#!/bin/bash
# The first process of a throw-away machine: its own file system, laid over that of this machine, its own network,
# processes and control groups; then systemd takes its place. Nothing that happens inside reaches the outside.
#
#   boot.sh FOLDER          boots it there, in the namespaces that it was started in
#   boot.sh --gone FOLDER   removes the control groups that it left; none of its processes may be alive
set -euo pipefail

# The control groups of this process, which those of a machine stand below; mounted at a place of its own, for this
# mount namespace only.
control_groups() {
    local at=$1
    mount --make-rprivate /
    mount -t cgroup2 cgroup2 "$at"
    printf '%s%s' "$at" "$(sed -n 's/^0:://p' /proc/self/cgroup)"
}

if [ "$1" = --gone ]; then
    find "$(control_groups "$2")/usherd-test-$(basename "$2")" -depth -type d -exec rmdir {} +
    exit
fi

folder=$1
if [ "${2:-}" != within ]; then
    # A namespace begins at the group that its first process is in. All machines would begin at the same one, and what
    # one systemd tidies up would be the group that another is about to start a service in.
    group=$(control_groups "$folder")/usherd-test-$(basename "$folder")
    mkdir "$group"
    echo 0 >"$group/cgroup.procs"
    umount "$folder"
    exec unshare --cgroup bash "$0" "$folder" within
fi

# All that is written goes into memory, and is gone with the last process.
mount -t tmpfs -o mode=755 machine "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"
cd "$folder/root"

mount -t proc proc proc
# Nothing in there may turn the knobs of the kernel that it shares.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755 devices dev
for name in null zero full random urandom tty; do
    touch "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs tmp tmp

# A machine as it comes from the installer: none of the services, policies and earlier tries of the one below.
rm -rf etc/systemd/system/*.wants etc/systemd/system/default.target usr/sbin/policy-rc.d
rm -rf etc/usherd var/lib/usherd var/lib/usherd-agent var/log/journal
# Indexing manual pages takes longer than everything else.
rm -f var/lib/man-db/auto-update
for unit in systemd-logind.service systemd-modules-load.service systemd-udevd.service sys-kernel-debug.mount \
    sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount getty.target; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done

mkdir -p below
pivot_root . below
umount -l below
exec env -i container=throw-away PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal </dev/null
