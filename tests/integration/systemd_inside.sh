#!/bin/sh
# The first process of test_systemd.sh's namespaces: gives them a system of their own, and becomes systemd.
#   systemd_inside.sh FOLDER
# Of the host's files FOLDER alone can be written, as /run/shared; /run, /dev, /tmp, /var/lib and what systemd has in
# /etc are new and empty. FOLDER/etc is laid over /etc, and FOLDER/bin over /usr/bin. FOLDER/inside is made when all of
# that was allowed.
set -e
folder=$1
mount --make-rprivate /

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/shared /run/.etc /run/.etc-work /run/.dev
mount --bind "$folder" /run/shared
cp -a "$folder/etc/." /run/.etc
mount -t overlay -o lowerdir=/etc,upperdir=/run/.etc,workdir=/run/.etc-work overlay /etc
mount -t tmpfs -o mode=755 tmpfs /etc/systemd
cp -a "$folder/etc/systemd/." /etc/systemd
mount -t overlay -o lowerdir=/run/shared/bin:/usr/bin overlay /usr/bin
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -o remount,bind,ro /

mount -t tmpfs -o mode=755 tmpfs /run/.dev
for d in null zero full random urandom tty; do
  : >"/run/.dev/$d"
  mount --bind "/dev/$d" "/run/.dev/$d"
done
mkdir /run/.dev/pts /run/.dev/shm
ln -s /proc/self/fd /run/.dev/fd
mount -t devpts -o newinstance,ptmxmode=0666 devpts /run/.dev/pts
ln -s pts/ptmx /run/.dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs /run/.dev/shm
mount --rbind /run/.dev /dev

mount -o remount,bind,ro /sys
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys

for s in /usr/lib/systemd/systemd /lib/systemd/systemd; do
  [ -x "$s" ] || continue
  : >/run/shared/inside
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=mayfly-test SYSTEMD_UNIT_PATH=/etc/systemd/system \
    SYSTEMD_GENERATOR_PATH=/etc/systemd/none "$s" --system --unit=multi-user.target --show-status=no --log-target=null
done
echo "no systemd" >&2
exit 1
