/*
 * verdict/hang: what the vCPUs of a machine that hangs do, from a few samples of each; see verdict.h.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "vmm/verdict/verdict.h"

static enum verdict_vcpu_state state_of(const struct verdict_sample *s)
{
	if (s->halted)
		return s->interrupts ? VERDICT_VCPU_IDLE : VERDICT_VCPU_DEAD;
	if (s->cpl == 3)
		return VERDICT_VCPU_USER;
	return s->interrupts ? VERDICT_VCPU_SPIN_ON : VERDICT_VCPU_SPIN_OFF;
}

/*
 * What all samples show. An interrupt may wake a vCPU that is idle, or stop one that spins with interrupts on:
 * such a state is also that of most samples. One sample with interrupts on tells that a vCPU does not spin
 * with interrupts off.
 */
enum verdict_vcpu_state verdict_vcpu_state(const struct verdict_vcpu *vcpu)
{
	unsigned count[VERDICT_VCPU_BUSY + 1] = { 0 };

	if (!vcpu->n)
		return VERDICT_VCPU_UNKNOWN;
	for (unsigned i = 0; i < vcpu->n; i++)
		count[state_of(&vcpu->sample[i])]++;
	for (unsigned state = 0; state < VERDICT_VCPU_BUSY; state++) {
		bool steady = state == VERDICT_VCPU_DEAD || state == VERDICT_VCPU_SPIN_OFF;

		if (count[state] == vcpu->n || (!steady && 2 * count[state] > vcpu->n))
			return state;
	}
	return VERDICT_VCPU_BUSY;
}

static void add(char *buf, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add(char *buf, size_t len, const char *fmt, ...)
{
	size_t at = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf + at, len - at, fmt, ap);
	va_end(ap);
}

/* Of the last sample in this state, or, busy, the last one. */
static uint64_t rip_in(const struct verdict_vcpu *vcpu, enum verdict_vcpu_state state)
{
	for (unsigned i = vcpu->n; i-- > 0;)
		if (state_of(&vcpu->sample[i]) == state)
			return vcpu->sample[i].rip;
	return vcpu->sample[vcpu->n - 1].rip;
}

static void add_vcpu(const struct verdict_vcpu *vcpu, char *buf, size_t len)
{
	static const char does[][40] = {
		[VERDICT_VCPU_UNKNOWN] = "does not answer",
		[VERDICT_VCPU_IDLE] = "is idle",
		[VERDICT_VCPU_DEAD] = "is halted with interrupts off",
		[VERDICT_VCPU_SPIN_OFF] = "spins with interrupts off",
		[VERDICT_VCPU_SPIN_ON] = "spins with interrupts on",
		[VERDICT_VCPU_USER] = "spins in user mode",
		[VERDICT_VCPU_BUSY] = "is busy",
	};
	enum verdict_vcpu_state state = verdict_vcpu_state(vcpu);

	add(buf, len, "%svCPU %u %s", *buf ? ", " : "", vcpu->sample[0].vcpu, does[state]);
	if (vcpu->n && state != VERDICT_VCPU_IDLE)
		add(buf, len, " (RIP 0x%" PRIx64 ")", rip_in(vcpu, state));
}

void verdict_hang_text(const struct verdict_vcpu *vcpu, size_t n, char *buf, size_t len)
{
	size_t idle = 0, shown = 0;

	buf[0] = 0;
	for (size_t i = 0; i < n; i++)
		idle += verdict_vcpu_state(&vcpu[i]) == VERDICT_VCPU_IDLE;
	if (n && idle == n) {
		if (n == 1)
			add(buf, len, "the vCPU is idle");
		else
			add(buf, len, "all %zu vCPUs are idle", n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (verdict_vcpu_state(&vcpu[i]) == VERDICT_VCPU_IDLE)
			continue;
		if (++shown > 4)
			continue;
		add_vcpu(&vcpu[i], buf, len);
	}
	if (shown > 4)
		add(buf, len, " and %zu more", shown - 4);
	if (idle)
		add(buf, len, "; %s idle", n == 2 ? "the other is" : "the others are");
}
