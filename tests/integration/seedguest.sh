# What the guest of tests/integration/seedguest does, by plain busybox: /disks has a line
# "DISK TREE" for each disk, /want.TREE what must be on it. It tells one digest for all names
# and contents of a disk, and a few differences where there are some: each byte on the serial
# port is an exit. Few forks, for they are slow where KVM is emulated.
busybox mkdir -p /bin /m
busybox --install -s /bin
PATH=/bin LC_ALL=C
export PATH LC_ALL
# names and large are looked at without all of their contents.
list() {
	find . | sort
	find . -type f ! -name large ! -path './names/*' -print0 | sort -z | xargs -0 -r sha256sum
}
while read -r disk tree; do
	mount -t vfat -o ro,utf8 /dev/$disk /m || { echo "seed: cannot mount $disk"; continue; }
	cd /m
	list >/list
	if [ -f large ]; then
		# The driver follows 4 GiB of clusters entry by entry, and reads the FAT by sectors.
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
