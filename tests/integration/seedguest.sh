# What the guest of tests/integration/seed does: every file's sum, of every disk. Plain busybox.
busybox mkdir -p /bin /m
busybox --install -s /bin
PATH=/bin
export PATH
for disk in vda vdb vdc; do
	umount /dev/$disk 2>/dev/null
	mount -t vfat -o ro,utf8 /dev/$disk /m || { echo "seed: cannot mount $disk"; continue; }
	(cd /m && find . -type f -print0 | xargs -0 sha256sum) | sed "s/^\([0-9a-f]*\)  /sum $disk \1 /"
	umount /m
	if [ "$(cat /sys/block/$disk/ro)" = 1 ] && ! dd if=/dev/zero of=/dev/$disk bs=512 count=1 2>/dev/null; then
		echo "readonly $disk"
	fi
done
