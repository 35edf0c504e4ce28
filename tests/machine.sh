#!/usr/bin/env bash
# Tests in an emulated machine (qemu) with Debian's own kernel and cgroup v2, which the machine at hand may
# not have: its root is this one's, read-only, with a disk of its own for /tmp. Arguments are pytest's; without any:
# doctor, the verdict of every cause, and the walls. USER_ID=1000: as an ordinary user with a delegated control group.
# Emulation takes about ten times as long; ACCEL=kvm where that works. Debian packages are fetched where qemu or the kernel are missing (root).
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
top=${here#/} top=${top%%/*} # where the repository lies, whatever that is
place=$here/build/machine
shared=$place/shared
mkdir -p "$place" "$shared"
log=$place/console.log

# 9p and a disk; in an order in which each finds what it needs.
modules=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci netfs fscache 9pnet 9pnet_virtio 9p
  overlay crc32c_generic libcrc32c crc16 mbcache jbd2 ext4 virtio_blk)

fetch() { # the kernel, a static busybox for the first steps, and qemu
  command -v qemu-system-x86_64 >/dev/null || apt-get install -y -qq --no-install-recommends qemu-system-x86
  command -v mkfs.ext4 >/dev/null || apt-get install -y -qq --no-install-recommends e2fsprogs
  [ -e "$place/kernel/bin/busybox" ] && return
  (
    cd "$place"
    rm -rf kernel
    image=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    apt-get download -qq -o APT::Sandbox::User=root busybox-static "$image"
    for package in *.deb; do dpkg -x "$package" kernel; done
    rm -f ./*.deb
  )
}

first_steps() { # an initial file system: modules, mounts, and on into the root of this machine
  local tree=$place/initial name
  rm -rf "$tree"
  mkdir -p "$tree"/{bin,modules,proc,sys,dev,host,new}
  cp "$place/kernel/bin/busybox" "$tree/bin/"
  for name in "${modules[@]}"; do
    find "$place/kernel/lib/modules" -name "$name.ko" -exec cp {} "$tree/modules/" \;
  done
  cat >"$tree/init" <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for name in ${modules[*]}; do [ -e /modules/\$name.ko ] && insmod /modules/\$name.ko 2>/dev/null; done
options=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o \$options,cache=loose,ro host /host || poweroff -f
mount -t tmpfs -o mode=755 root /new
for name in proc sys dev tmp run mnt var $HOME; do mkdir -p /new/\$name; done
for name in bin sbin lib lib64 usr etc opt home srv ${top}; do
  if [ -L /host/\$name ]; then ln -s "\$(readlink /host/\$name)" /new/\$name
  elif [ -d /host/\$name ]; then mkdir -p /new/\$name; mount --bind /host/\$name /new/\$name; fi
done
for path in /host/var/* /host$HOME/* /host$HOME/.[a-z]*; do
  name=\${path#/host}
  case \$name in $HOME/.cache | /var/tmp | /var/run | /var/lock) continue;; esac
  [ -d \$path ] && [ ! -L \$path ] && mkdir -p /new\$name && mount --bind \$path /new\$name
done
mkdir -p /disk /new/var/tmp
mount -t ext4 /dev/vda /disk || poweroff -f
mkdir -p -m 1777 /disk/tmp /disk/var
mount --bind /disk/tmp /new/tmp; mount --bind /disk/var /new/var/tmp
mount -t proc proc /new/proc; mount -t sysfs sys /new/sys; mount -t devtmpfs dev /new/dev; mount -t tmpfs run /new/run
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts pts /new/dev/pts; mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t cgroup2 groups /new/sys/fs/cgroup
mount -t 9p -o \$options,cache=none shared /new/mnt || poweroff -f
ip link set lo up
exec switch_root /new /bin/bash /mnt/begin
END
  chmod +x "$tree/init"
  (cd "$tree" && find . | "$place/kernel/bin/busybox" cpio -o -H newc 2>/dev/null | gzip) >"$place/initial.gz"
}

work() { # what is run in there: as root, or as a user in a control group that was delegated to him
  cp "$place/kernel/bin/busybox" "$shared/busybox"
  cat >"$shared/begin" <<END
user=${USER_ID:-0} group=/sys/fs/cgroup/kernel-runtime
if [ \$user != 0 ]; then
  mkdir -p \$group/front
  echo +memory +pids +cpu | tee /sys/fs/cgroup/cgroup.subtree_control \$group/cgroup.subtree_control >/dev/null
  chown -R \$user \$group
  echo \$\$ >\$group/front/cgroup.procs
fi
mkdir -p /tmp/home
chown \$user /tmp/home
env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8 HOME=/tmp/home PYTHONDONTWRITEBYTECODE=1 \\
  setpriv --reuid=\$user --regid=\$user --clear-groups bash /mnt/work 2>&1 | tee /mnt/output
/mnt/busybox poweroff -f
END
  cat >"$shared/work" <<END
cd $(printf '%q' "$here")
.venv/bin/kernel-runtime doctor
.venv/bin/python -m pytest -p no:xdist -p no:cacheprovider --timeout=1800 -q -rs $(printf '%q ' "$@")
echo "status \$?"
END
}

[ $# -gt 0 ] || set -- tests/workers/test_verdict_matrix.py tests/walls
fetch
first_steps
work "$@"
rm -f "$shared/output" "$place/disk"
truncate -s 16G "$place/disk"
mkfs.ext4 -q -F "$place/disk"
echo "An emulated machine with $(ls "$place/kernel/lib/modules"), cgroup v2; its console: $log"
qemu-system-x86_64 -M q35 -accel "${ACCEL:-tcg,thread=multi}" -smp 2 -m 6144 -nographic -no-reboot \
  -kernel "$place"/kernel/boot/vmlinuz-* -initrd "$place/initial.gz" \
  -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all" \
  -drive "file=$place/disk,if=virtio,format=raw,cache=unsafe" \
  -fsdev local,id=host,path=/,security_model=none,readonly=on -device virtio-9p-pci,fsdev=host,mount_tag=host \
  -fsdev "local,id=shared,path=$shared,security_model=none" -device virtio-9p-pci,fsdev=shared,mount_tag=shared \
  </dev/null >"$log" 2>&1 &
until [ -e "$shared/output" ] || ! kill -0 $! 2>/dev/null; do sleep 1; done
tail -n +1 -f --pid=$! "$shared/output" 2>/dev/null || tail -20 "$log"
wait
rm -f "$place/disk"
grep -qx "status 0" "$shared/output"
