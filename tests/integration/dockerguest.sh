# The guest's part of tests/guests/docker: uses each device of its VM. Plain busybox and vsockcat.
busybox mkdir -p /bin /tmp
busybox --install -s /bin
PATH=/bin
ok() { # WHAT COMMAND…
	what=$1; shift
	if "$@" >/tmp/out 2>&1; then echo "docker ok: $what"; else echo "docker not ok: $what"; tail -5 /tmp/out; fi
}
network() {
	ip link set eth0 up && udhcpc -i eth0 -n -q -t 8 -T 2 -s /bin/true && ip addr add 10.0.2.15/24 dev eth0 && ping -c 1 -W 10 10.0.2.2
}
disk() {
	dd if=/dev/urandom of=/tmp/data bs=64k count=16 && dd if=/tmp/data of=/dev/vda bs=64k conv=fsync || return 1
	echo 3 >/proc/sys/vm/drop_caches
	dd if=/dev/vda bs=64k count=16 | cmp - /tmp/data
}
console() { echo from the guest >/dev/hvc0; }
ok "user network" network
ok "qcow2 disk" disk
ok "console" console
ok "vsock" vsockcat receive 1
echo "docker: ready"
vsockcat wait 9
