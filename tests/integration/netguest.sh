# The guest's part of tests/integration/net: net.sh PORT SECONDS CARD…: each card is
# KIND:NET:MIB, in the order of the machine's network cards; NET is the third number of its
# network's address, MIB how much data goes each way. PORT is this guest's own iperf3
# server, SECONDS the length of each run. Plain busybox.
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
port=$1 seconds=$2
shift 2

# Succeeds if the host's echo server sends the line back.
echoes() { [ "$(echo "hello $1" | timeout 20 nc "$1" 7 | head -1)" = "hello $1" ]; }
# ADDRESS MIB: receives the start of the host's file, whose sum is in the initrd, into /tmp/data.
# (With bash's sockets: busybox's nc moves one kilobyte at a time.)
receives() {
	timeout 300 bash -c "exec 3<>/dev/tcp/$1/9002; echo $2 >&3; cat <&3" >/tmp/data
	[ "$(sha256sum </tmp/data | cut -d' ' -f1)" = "$(cat "/sum-$2")" ]
}
# Sends /tmp/data back: the host answers with the sum of what it got.
sends() {
	timeout 300 bash -c "exec 3<>/dev/tcp/$1/9001; echo $2 >&3; cat /tmp/data >&3; cat <&3" >/tmp/theirs
	[ "$(cat /tmp/theirs)" = "$(cat "/sum-$2")" ]
}
# NAME ADDRESS ARG…: one run of iperf3; adds its rate to the figures.
rate() {
	name=$1 addr=$2; shift 2
	timeout 60 iperf3 -c "$addr" -p "$port" -t "$seconds" -f m "$@" >/tmp/iperf 2>&1 || {
		tail -3 /tmp/iperf; return 1; }
	r=$(awk '/receiver/ && (/SUM/ || !/SUM/) { v = $0 } END { print v }' /tmp/iperf |
		sed -E 's/.* ([0-9.]+ [MG]bits).*/\1/')
	echo "figure: $card: $name: $r/s" >>/tmp/figures
	[ -n "$r" ]
}
rates() {
	ok "$card: iperf3, guest to host, 1 stream" rate "guest to host, 1 stream" "$1"
	ok "$card: iperf3, host to guest, 1 stream" rate "host to guest, 1 stream" "$1" -R
	ok "$card: iperf3, guest to host, 8 streams" rate "guest to host, 8 streams" "$1" -P 8
	ok "$card: iperf3, host to guest, 8 streams" rate "host to guest, 8 streams" "$1" -P 8 -R
}
data() { # ADDRESS MIB
	ok "$card: $2 MiB from the host at $1, same sha256" receives "$1" "$2"
	ok "$card: $2 MiB to the host at $1, same sha256" sends "$1" "$2"
}
round_trip() { ping -c 200 -i 0.01 -q "$1" 2>/dev/null | sed -n "s/^round-trip/figure: round-trip/p"; }

cat >/usr/share/udhcpc/default.script <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/${mask:-24} dev $interface
ip route add default via $router
echo "nameserver $dns" >/etc/resolv.conf
END
# A server that leaves a file for each client.
cat >/bin/served <<'END'
#!/bin/sh
touch /tmp/served.$$
exec cat
END
chmod +x /usr/share/udhcpc/default.script /bin/served

# Repeats the command until it succeeds, at most 20 seconds.
soon() {
	for _ in $(seq 200); do "$@" && return; sleep 0.1; done
	return 1
}
global6() { ip -6 addr show "$1" | grep 'inet6 fec0' | grep -qv tentative; }
served() { [ "$(ls /tmp/served.* 2>/dev/null | wc -l)" -ge 2 ]; }

dhcp() {
	ip link set "$1" up
	ok "$card: DHCP" udhcpc -i "$1" -n -q -t 10 -s /usr/share/udhcpc/default.script
	ok "$card: address 10.0.2.15" sh -c "ip addr show $1 | grep -q 10.0.2.15/24"
}
static() { # DEVICE NET
	ip addr add "192.168.$2.2/24" dev "$1"
	ip link set "$1" up
	ok "$card: ping" ping -c 2 -i 0.2 -W 5 "192.168.$2.1"
	ok "$card: TCP echo" echoes "192.168.$2.1"
}
over6() { # DEVICE NET
	echo 0 >/proc/sys/net/ipv6/conf/"$1"/accept_dad
	ip -6 addr add "fd00:$2::2/64" dev "$1"
	ok "$card: TCP echo over IPv6" soon echoes "fd00:$2::1"
	data "fd00:$2::1" "$(ls / | sed -n 's/^sum-//p' | sort -n | head -1)"
	ok "$card: iperf3 over IPv6, guest to host" rate "guest to host, IPv6" "fd00:$2::1"
	ok "$card: iperf3 over IPv6, host to guest" rate "host to guest, IPv6" "fd00:$2::1" -R
}
user() { # DEVICE MIB: all tests; the caller then takes the card down, for the next of its kind
	dhcp "$1"
	ok "$card: DNS" sh -c 'nslookup -type=a test.bantam 10.0.2.3 | grep -q 192.0.2.7'
	ok "$card: TCP echo to the host" echoes 10.0.2.2
	ok "$card: an IPv6 address by router advertisement" soon global6 "$1"
	ok "$card: TCP echo over IPv6" echoes fec0::2
	data 10.0.2.2 "$2"
	rates 10.0.2.2
}
lost() { grep -q 0 "/sys/class/net/$1/carrier"; }
back() { grep -q 1 "/sys/class/net/$1/carrier"; }

ip link set lo up
n=0
for spec; do
	n=$((n + 1))
	kind=${spec%%:*} net=${spec#*:} mib=${spec##*:} card="card $n"
	net=${net%%:*}
	dev=$(ls /sys/class/net | grep -v '^lo$' | sed -n "${n}p")
	[ -n "$dev" ] || { echo "not ok: there is a network card $n"; ls /sys/class/net; exit 1; }
	echo "features of $dev: $(cat /sys/class/net/$dev/device/features)"
	case $kind in
	forwarded)
		user "$dev" "$mib"
		nc -ll -p 22 -e /bin/served &
		echo "server: ready"
		ok "$card: two forwarded connections" soon served
		ip link set "$dev" down
		;;
	user)
		user "$dev" "$mib"
		ip link set "$dev" down
		;;
	tap)
		static "$dev" "$net"
		ok "$card: ping over IPv6" soon ping -6 -c 1 -W 5 ff02::1%"$dev"
		data "192.168.$net.1" "$mib"
		rates "192.168.$net.1"
		# IPv6 has other segmentation and checksums: test it once per guest.
		[ $n != 1 ] || over6 "$dev" "$net"
		ok "$card: large pings" ping -c 2 -i 0.2 -s 20000 -W 5 "192.168.$net.1"
		;;
	# Cards beside others of their kind.
	one-of-user) dhcp "$dev"; one_of="$one_of 10.0.2.2" ;;
	one-of-tap) static "$dev" "$net"; one_of="$one_of 192.168.$net.1" ;;
	link)
		ip link set "$dev" up
		ok "$card: carrier" soon back "$dev"
		echo "link: ready"
		ok "$card: carrier is lost with the peer" soon lost "$dev"
		ok "$card: and comes back with it" soon back "$dev"
		;;
	bench-tap)
		static "$dev" "$net"
		rates "192.168.$net.1"
		round_trip "192.168.$net.1"
		;;
	bench-user)
		dhcp "$dev"
		rates 10.0.2.2
		round_trip 10.0.2.2
		;;
	esac
done
for addr in $one_of; do ok "TCP echo by $addr while the others are up" echoes "$addr"; done
[ -f /tmp/figures ] && cat /tmp/figures
exit $bad
