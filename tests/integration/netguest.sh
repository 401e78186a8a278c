# What a guest of tests/integration/net does; $1 is its program. Plain busybox.
busybox mkdir -p /bin /usr/share/udhcpc /etc
busybox --install -s /bin
PATH=/bin
export PATH LD_LIBRARY_PATH=/lib:/usr/lib:/lib64:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu
bad=0
ok() { # WHAT COMMAND…
	what=$1; shift
	if "$@" >/tmp/out 2>&1; then echo "ok: $what"; else
		echo "not ok: $what"; bad=1; tail -5 /tmp/out
	fi
}
sum=$(cat /sum) mib=$(cat /mib)

# The first word that the host's echo server sends back.
echoes() { [ "$(echo "hello $1" | timeout 20 nc "$1" 7 | head -1)" = "hello $1" ]; }
receives() { [ "$(timeout 300 nc "$1" 9002 </dev/null | sha256sum | cut -d' ' -f1)" = "$sum" ]; }
# A pattern of as many bytes; both ends compute its sum.
sends() {
	mkfifo /tmp/copy
	sha256sum </tmp/copy >/tmp/mine.raw &
	pid=$!
	dd if=/dev/urandom bs=1M count="$mib" 2>/dev/null | tee /tmp/copy | {
		timeout 300 nc "$1" 9001; } >/tmp/theirs
	wait $pid
	cut -d' ' -f1 </tmp/mine.raw >/tmp/mine
	rm /tmp/copy
	[ -s /tmp/mine ] && [ "$(cat /tmp/mine)" = "$(cat /tmp/theirs)" ]
}
# NAME ADDRESS ARG…: one run of iperf3; its rate is a figure.
rate() {
	name=$1 addr=$2; shift 2
	timeout 60 iperf3 -c "$addr" -t 4 -f m "$@" >/tmp/iperf 2>&1 || { tail -3 /tmp/iperf; return 1; }
	r=$(awk '/receiver/ && (/SUM/ || !/SUM/) { v = $0 } END { print v }' /tmp/iperf |
		sed -E 's/.* ([0-9.]+ [MG]bits).*/\1/')
	echo "figure: $name: $r/s" >>/tmp/figures
	[ -n "$r" ]
}
rates() {
	ok "iperf3, guest to host, 1 stream" rate "guest to host, 1 stream" "$1"
	ok "iperf3, host to guest, 1 stream" rate "host to guest, 1 stream" "$1" -R
	ok "iperf3, guest to host, 8 streams" rate "guest to host, 8 streams" "$1" -P 8
	ok "iperf3, host to guest, 8 streams" rate "host to guest, 8 streams" "$1" -P 8 -R
}

cat >/usr/share/udhcpc/default.script <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/${mask:-24} dev $interface
ip route add default via $router
echo "nameserver $dns" >/etc/resolv.conf
END
chmod +x /usr/share/udhcpc/default.script

nic() { ls /sys/class/net | grep -v '^lo$' | sed -n "${1}p"; }
ip link set lo up
first=$(nic 1) second=$(nic 2)
[ -n "$first" ] || { echo "not ok: there is a network card"; ls /sys/class/net; exit 1; }
echo "features of $first: $(cat /sys/class/net/$first/device/features)"

dhcp() {
	ip link set "$1" up
	ok "DHCP" udhcpc -i "$1" -n -q -t 10 -s /usr/share/udhcpc/default.script
	ok "address 10.0.2.15" sh -c "ip addr show $1 | grep -q 10.0.2.15/24"
}
static() {
	ip addr add 192.168.77.2/24 dev "$1"
	ip link set "$1" up
	ok "ping" ping -c 3 -W 5 192.168.77.1
	ok "TCP echo" echoes 192.168.77.1
}

case $1 in
user)
	dhcp "$first"
	ok "DNS" sh -c 'nslookup -type=a test.bantam 10.0.2.3 | grep -q 192.0.2.7'
	ok "TCP echo to the host" echoes 10.0.2.2
	for i in 1 2 3 4 5 6 7 8 9 10; do
		ip -6 addr show "$first" | grep -q 'inet6 fec0.*global\|inet6 fec0' && break
		sleep 1
	done
	ok "an IPv6 address by router advertisement" sh -c "ip -6 addr show $first | grep -q 'inet6 fec0'"
	sleep 2
	ok "TCP echo over IPv6" echoes fec0::2
	nc -ll -p 22 -e /bin/cat &
	echo "server: ready"
	ok "$mib MiB from the host, same sha256" receives 10.0.2.2
	ok "$mib MiB to the host, same sha256" sends 10.0.2.2
	rates 10.0.2.2
	;;
tap)
	static "$first"
	ok "ping over IPv6" ping -6 -c 3 -W 5 ff02::1%"$first"
	ok "$mib MiB from the host, same sha256" receives 192.168.77.1
	ok "$mib MiB to the host, same sha256" sends 192.168.77.1
	rates 192.168.77.1
	ok "large pings" ping -c 3 -s 20000 -W 5 192.168.77.1
	ping -c 200 -i 0.01 -q 192.168.77.1 2>/dev/null | sed -n 's/^round-trip/figure: round-trip/p'
	;;
bench-tap)
	static "$first"
	rates 192.168.77.1
	ping -c 200 -i 0.01 -q 192.168.77.1 2>/dev/null | sed -n 's/^round-trip/figure: round-trip/p'
	;;
bench-user)
	dhcp "$first"
	rates 10.0.2.2
	ping -c 200 -i 0.01 -q 10.0.2.2 2>/dev/null | sed -n 's/^round-trip/figure: round-trip/p'
	;;
tap-short)
	static "$first"
	rates 192.168.77.1
	;;
two)
	dhcp "$first"
	static "$second"
	ok "TCP echo by the first card" echoes 10.0.2.2
	ok "TCP echo by the second card" echoes 192.168.77.1
	;;
link)
	ip link set "$first" up
	ok "carrier" grep -q 1 /sys/class/net/"$first"/carrier
	echo "link: ready"
	for i in $(seq 100); do grep -q 0 /sys/class/net/"$first"/carrier && break; sleep 0.05; done
	ok "carrier is lost with the peer" grep -q 0 /sys/class/net/"$first"/carrier
	for i in $(seq 100); do grep -q 1 /sys/class/net/"$first"/carrier && break; sleep 0.1; done
	ok "and comes back with it" grep -q 1 /sys/class/net/"$first"/carrier
	;;
esac
[ -f /tmp/figures ] && cat /tmp/figures
exit $bad
