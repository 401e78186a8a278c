# The guest's part of tests/integration/fs. Plain busybox, git and fsload.
# With the argument "manifest" it only lists the current directory; the host does that, too.
manifest() {
	busybox find . -type d | LC_ALL=C busybox sort
	busybox find . ! -type d -print0 | LC_ALL=C busybox sort -z | busybox xargs -0 busybox stat -c "%n %f %s %h"
	busybox find . -type f -print0 | LC_ALL=C busybox sort -z | busybox xargs -0 busybox sha256sum
}
[ "$1" = manifest ] && { manifest; exit; }
busybox mkdir -p /bin /m /tmp
busybox --install -s /bin
for c in upload-pack receive-pack; do ln -s git /bin/git-$c; done
PATH=/bin HOME=/ LC_ALL=C
export PATH HOME LC_ALL
ok() { # WHAT COMMAND…
	what=$1; shift
	if "$@" >/tmp/out 2>&1; then echo "fs ok: $what"; cut -d. -f1 /proc/uptime; else echo "fs not ok: $what"; tail -5 /tmp/out; fi
}
many() {
	mkdir /m/t/many && for i in $(seq 50); do echo "file $i" >/m/t/many/$i || return 1; done
	[ "$(cat /m/t/many/* | wc -l)" = 50 ] && mv /m/t/many/7 /m/t/many/seven && rm /m/t/many/8 &&
		[ "$(ls /m/t/many | wc -l)" = 49 ]
}
tree() { mkdir /m/t/copy && tar -xf /m/tree.tar -C /m/t/copy && tar -cf /m/t/again.tar -C /m/t/copy .; }
large() { dd if=/dev/urandom of=/m/t/large bs=64k count=64; }
clone() {
	git clone -q --template= file:///m/repo.git /m/t/clone && cd /m/t/clone && git fsck --full &&
		echo changed >>boot/acpi/acpi.c && git mv core other && git commit -qam "from the guest" &&
		[ -z "$(git status --porcelain)" ]
}
load() { mkdir /m/t/load && fsload /m/t/load 4 10 >/tmp/load; r=$?; cat /tmp/load >/dev/console; return $r; }
disk() {
	[ "$(blockdev --getsize64 /dev/vda)" = 16777216 ] || return 1
	for p in 0 1 2 3; do
		dd if=/dev/urandom of=/dev/vda bs=32k count=64 seek=$((p * 128 + 5)) conv=notrunc,fsync &
	done
	wait
	echo 3 >/proc/sys/vm/drop_caches
	sha256sum </dev/vda >/m/disk.sum
}
ok "mount" mount -t virtiofs home /m
mkdir /m/t
ok "read" grep -q "from the host" /m/hello
ok "write" sh -c "echo from the guest >/m/t/answer"
ok "50 files" many
ok "a tree from tar" tree
ok "4 MiB" large
ok "git clone" clone
cd /m/t
ok "fsload" load
ok "a disk" disk
manifest >/tmp/manifest
cp /tmp/manifest /m/manifest
cd /
ok "sync" sync
# The load under which the daemons die.
mkdir /m/load
(fsload /m/load 4 1000; while cat /m/hello; do :; done) >/dev/null 2>&1 &
for p in 0 1 2; do
	while dd if=/dev/vda of=/dev/null bs=4k skip=$((p * 1024)) count=1024 iflag=direct; do :; done >/dev/null 2>&1 &
done
sleep 1
echo "fs: kill it"
wait
echo "fs: load ended"
cat /m/hello 2>/tmp/err >/dev/null
echo "fs: after: read $? $(cat /tmp/err)"
sh -c "echo more >/m/t/more" 2>/tmp/err
echo "fs: after: write $? $(cat /tmp/err)"
dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/tmp/err
echo "fs: after: disk $? $(cat /tmp/err)"
dmesg | tail -2
echo "fs: end"
