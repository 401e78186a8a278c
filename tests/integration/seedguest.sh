# The guest's part of tests/integration/seedguest, with plain busybox: /disks has a line
# "DISK TREE" for each disk, /want.TREE the expected content. It prints one digest of all names
# and contents of a disk, and at most a few differences, because each byte on the serial
# port is an exit. It forks little, because forks are slow on an emulated KVM.
busybox mkdir -p /bin /m
busybox --install -s /bin
PATH=/bin LC_ALL=C
export PATH LC_ALL
# For names and large, the list leaves out most of the contents.
list() {
	find . | sort
	find . -type f ! -name large ! -path './names/*' -print0 | sort -z | xargs -0 -r sha256sum
}
while read -r disk tree; do
	mount -t vfat -o ro,utf8 /dev/$disk /m || { echo "seed: cannot mount $disk"; continue; }
	cd /m
	list >/list
	if [ -f large ]; then
		# The driver reads the FAT of 4 GiB entry by entry, by sectors: read it ahead.
		dd if=/dev/$disk of=/dev/null bs=64k count=80 2>/dev/null
		for block in 0 262144 786435 1048574; do
			dd if=large bs=4096 skip=$block count=1 2>/dev/null
		done | sha256sum >>/list
	fi
	have=$(sha256sum </list)
	echo "seed: digest $disk ${have%% *}"
	cmp -s /want.$tree /list || diff /want.$tree /list | grep '^[-+]' | head -20 | sed "s/^/seed: differs $disk /"
	cd /
	umount /m
	read -r ro </sys/block/$disk/ro
	if [ "$ro" = 1 ] && ! dd if=/dev/zero of=/dev/$disk bs=512 count=1 2>/dev/null; then
		echo "seed: readonly $disk"
	fi
done </disks
echo "seed: end"
