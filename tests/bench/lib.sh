# Shared by the parts of the benchmark, which source it from the top of the checkout.
# shellcheck shell=bash

bantam=${BANTAM:-build/bantam}
# Another bantam to compare with, if given: BASE=PROGRAM. It takes turns with bantam.
base=${BASE:-}
qemu=/usr/bin/qemu-system-x86_64
work=build/bench

# Options of every QEMU: no default devices, no configuration files. (QEMU 7.2 stops on a KVM that
# offers the MSR of arch-capabilities but accepts no value for it.)
qemu_common="-accel kvm -cpu host,-arch-capabilities -nodefaults -no-user-config -display none -no-reboot"

note() { echo "# $*"; }

# Compiles the startup and the floor program with flags like bantam's.
build_tools() {
	mkdir -p "$work"
	local t
	for t in floor startup; do
		[ "$work/$t" -nt "tests/bench/$t.c" ] ||
			${CC:-gcc} -std=gnu17 -D_GNU_SOURCE -O2 -fPIE -pie -o "$work/$t" "tests/bench/$t.c" || return
	done
}

# table TITLE "HEAD…" "BASE…": makes a table from rows "LABEL V1 V2 …" on stdin. For each label
# BASE, the table shows the other rows' V1 divided by BASE's.
table() {
	echo
	echo "== $1"
	awk -v head="$2" -v bases="$3" '
		BEGIN { nbases = split(bases, base, " ") }
		{ row[NR] = $0; value[$1] = $2 }
		END {
			n = split(head, h, " ")
			printf "%-32s", h[1]
			for (i = 2; i <= n; i++) printf " %12s", h[i]
			for (i = 1; i <= nbases; i++) printf "  x %s", base[i]
			print ""
			for (r = 1; r <= NR; r++) {
				m = split(row[r], f, " ")
				printf "%-32s", f[1]
				for (i = 2; i <= m; i++) printf " %12s", f[i]
				for (i = 1; i <= nbases; i++) {
					b = value[base[i]]
					ratio = b + 0 > 0 && f[2] + 0 > 0 ? sprintf("%.2f", f[2] / b) : "-"
					printf "  %*s", length(base[i]) + 2, ratio
				}
				print ""
			}
		}'
}

# Prints the median of the numbers on stdin.
median() { sort -n | awk '{ v[NR] = $1 } END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
