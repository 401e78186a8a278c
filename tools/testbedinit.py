"""What runs in the emulated host of tools/testbed: its first process, and the job."""

import testbedwatch

# Modules that the emulated host loads at boot, in this order. modprobe finds any other
# module, because the kernel's module tree is in place.
MODULES = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "kvm", "kvm_amd",
           "tun", "tap", "vhost_net", "vhost_vsock", "loop"]
MODULE_ARGS = {"kvm_amd": "nested=0"}

# PID 1 of the emulated host: one busybox shell. The console is the log;
# virtio-serial ports 1 (the job), 2 (out) and 3 (err) carry the caller's streams; port 4 the
# beat (testbedwatch.py); port 5 the keys of the caller's terminal (testbedtty.py).
INIT = r"""#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
while read -r module args; do insmod /modules/$module.ko $args; done < /modules.list
for port in 1 2 3 4 5; do
  until [ -c /dev/vport0p$port ]; do usleep 2000; done
done
vmrun=$(sed -n 's/^\([0-9a-f]*\) . __svm_vcpu_run\t.*/\1/p' /proc/kallsyms)
mkfifo /never
while :; do echo "$vmrun"; read -t @BEAT@ x; done <> /never > /dev/vport0p4 &
renice -n -20 -p $! > /dev/null
mkfifo /out /err
cat /out > /dev/vport0p2 &
cat /err > /dev/vport0p3 &
exec 4< /dev/vport0p1 5> /out 6> /err
echo testbed: ready
read -r length <&4
dd bs=$length count=1 iflag=fullblock <&4 > /job 2> /dev/null
. /job
prepare
# `mark` ends both streams; it follows whatever the command has written.
run < /new/dev/null 4<&- >&5 2>&6 5>&- 6>&-
status=$?
printf '%s' "$mark$status." >&5
printf '%s' "$mark$status." >&6
while :; do sleep 1000; done
""".replace("@BEAT@", str(testbedwatch.BEAT_S))

# The job: the part that differs from run to run. We send it when the host is up.
JOB = r"""
mark={mark}
prepare() {{
  date -s @{now} > /dev/null
  ip link set lo up
  mkdir /low /over /new
  mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /low
  mount -t tmpfs -o mode=755,size={kept}m over /over
  mkdir /over/up /over/work
  mount -t overlay -o lowerdir=/low,upperdir=/over/up,workdir=/over/work overlay /new
  mount --move /proc /new/proc
  mount --move /sys /new/sys
  mount --move /dev /new/dev
  mount -t cgroup2 cgroup /new/sys/fs/cgroup
  mount -t devpts -o ptmxmode=666,mode=620,gid=5 devpts /new/dev/pts
  mount -t tmpfs -o mode=1777 shm /new/dev/shm
  mount -t tmpfs -o mode=1777 tmp /new/tmp
  mount -t tmpfs -o mode=755 run /new/run
  mkdir -p /new/lib/modules
  ln -s {modules} /new/lib/modules/$(uname -r)
{shares}
  printf '%s' {script} > /new/run/testbed.sh
}}
run() {{ chroot /new /bin/sh /run/testbed.sh; }}
"""
