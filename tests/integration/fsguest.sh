# What the guest of tests/integration/fs does. Plain busybox.
busybox mkdir -p /bin /m /tmp
busybox --install -s /bin
PATH=/bin
export PATH
ok() { # WHAT COMMAND…
	what=$1; shift
	if "$@" >/tmp/out 2>&1; then echo "fs ok: $what"; else echo "fs not ok: $what"; tail -5 /tmp/out; fi
}
many() {
	mkdir /m/many && for i in $(seq 200); do echo "file $i" >/m/many/$i || return 1; done
	[ "$(cat /m/many/* | wc -l)" = 200 ] && mv /m/many/7 /m/many/seven && rm /m/many/8 &&
		[ "$(ls /m/many | wc -l)" = 199 ]
}
tree() { mkdir /m/copy && tar -xf /m/tree.tar -C /m/copy && tar -cf /m/again.tar -C /m/copy .; }
large() { dd if=/dev/urandom of=/m/large bs=64k count=64 && sha256sum </m/large >/m/large.sum; }
# Four processes make, rename, link, cut, read and remove in one directory.
stress() {
	mkdir /m/stress
	for p in 1 2 3 4; do
		(for i in $(seq 6); do
			f=/m/stress/$p.$((i % 3))
			dd if=/dev/zero of=$f bs=1k count=$i && ln -sf $f $f.l && cp $f $f.c &&
				mv $f.c $f.d && truncate -s $((i * 100)) $f && cmp $f $f.l &&
				chmod 600 $f && rm -f $f.d || { echo $p >>/tmp/bad; break; }
		done) >/dev/null 2>&1 &
	done
	wait
	[ ! -s /tmp/bad ] && rm -r /m/stress
}
ok "mount" mount -t virtiofs home /m
ok "read" grep -q "from the host" /m/hello
ok "write" sh -c "echo from the guest >/m/answer"
ok "200 files" many
ok "a tree from tar" tree
ok "4 MiB" large
ok "four processes" stress
ok "sync" sync
echo "fs: kill it"
sleep 2
# In the background: a request to a daemon that is gone must not stop the VM.
(cat /m/hello >/dev/null 2>/tmp/err; echo "fs: after the kill: $? $(cat /tmp/err)") &
sleep 3
dmesg | tail -1
echo "fs: end"
