/*
 * serial: see serial.h.
 *
 * Register bits have the names of <linux/serial_reg.h>, after the data sheet. The model differs
 * from the data sheet in three points, each to lose less:
 *
 * - A real UART loses what arrives while no driver listens, and an operating system's driver clears
 *   the FIFO when it starts. So bytes are fetched from the host only once the guest shows that it
 *   reads: it has enabled the receive interrupt (not just for a moment, as a probe does, which sets
 *   all four enable bits before it has set OUT2), or it polls LSR while only input can change it.
 *   "echo command | bantam run" works.
 * - Switching the FIFO on does not clear a character that is there.
 * - Characters below the FIFO's trigger level time out at once.
 */
#include "devices/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/chardev/chardev.h"

#define FIFO_BYTES 16u
#define POLLS 16u /* Linux's driver reads LSR twice in a row while it starts */
#define MSR_IDLE (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS) /* a peer that is always connected */
#define LSR_ERRORS (UART_LSR_BI | UART_LSR_FE | UART_LSR_PE)

struct serial_config {
	uint16_t port; /* 8 ports from here */
	uint8_t gsi;
	uint8_t holder; /* of the line, below 32 */
};

/* A snapshot will save exactly this. The wiring is in struct serial; its line follows from this. */
struct serial_state {
	uint8_t ier, lcr, mcr, scr, fcr; /* registers, as the guest wrote them */
	uint8_t overrun;		 /* LSR's OE */
	uint8_t msr;
	uint8_t dll, dlm;	      /* the divisor, which changes nothing here */
	bool thre_pending;	      /* the interrupt, not the status */
	bool polls;		      /* the guest reads without interrupts */
	uint8_t lsr_reads;	      /* in a row */
	uint8_t rx_len, tx_len;	      /* bytes in rx and tx */
	uint8_t rx[FIFO_BYTES];	      /* oldest first */
	uint8_t rx_error[FIFO_BYTES]; /* LSR_ERRORS of each */
	uint8_t tx[FIFO_BYTES];	      /* only while the sink is full */
};

struct serial {
	struct device dev;
	const struct device_env *env;
	struct serial_config config;
	struct chardev *chr;
	pthread_mutex_t lock;
	struct serial_state s;
	bool line;
	bool added;
};

/* --- status and interrupt (lock held) -------------------------------------- */

static bool fifo_on(const struct serial_state *s)
{
	return s->fcr & UART_FCR_ENABLE_FIFO;
}

static unsigned rx_size(const struct serial_state *s)
{
	return fifo_on(s) ? FIFO_BYTES : 1;
}

static unsigned rx_trigger(const struct serial_state *s)
{
	static const uint8_t level[] = { 1, 4, 8, 14 };

	return fifo_on(s) ? level[s->fcr >> 6] : 1;
}

static uint8_t lsr(const struct serial_state *s)
{
	uint8_t v = s->overrun;

	if (s->rx_len)
		v |= UART_LSR_DR | s->rx_error[0];
	if (!s->tx_len)
		v |= UART_LSR_THRE | UART_LSR_TEMT;
	for (unsigned i = 0; fifo_on(s) && i < s->rx_len; i++)
		if (s->rx_error[i])
			v |= 0x80; /* an error somewhere in the FIFO */
	return v;
}

/* The interrupt of highest priority, without the FIFO bits. */
static uint8_t iir(const struct serial_state *s)
{
	if (s->ier & UART_IER_RLSI && lsr(s) & (LSR_ERRORS | UART_LSR_OE))
		return UART_IIR_RLSI;
	if (s->ier & UART_IER_RDI && s->rx_len)
		return s->rx_len >= rx_trigger(s) ? UART_IIR_RDI : UART_IIR_RX_TIMEOUT;
	if (s->ier & UART_IER_THRI && s->thre_pending)
		return UART_IIR_THRI;
	if (s->ier & UART_IER_MSI && s->msr & UART_MSR_ANY_DELTA)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

static void update_line(struct serial *ser)
{
	bool line = iir(&ser->s) != UART_IIR_NO_INT;

	if (line == ser->line)
		return;
	ser->line = line;
	ser->env->ops->set_line(ser->env->vm, ser->config.gsi, ser->config.holder, line);
}

static bool listens(const struct serial_state *s)
{
	if (s->mcr & UART_MCR_LOOP)
		return false;
	if (s->ier & UART_IER_RDI && (s->mcr & UART_MCR_OUT2 || (s->ier & 0xf) != 0xf))
		return true;
	return s->polls;
}

/* --- data (lock held) ------------------------------------------------------ */

static void rx_put(struct serial_state *s, uint8_t byte, uint8_t error)
{
	if (s->rx_len == rx_size(s)) {
		s->overrun = UART_LSR_OE;
		/* With a FIFO the new character is lost, without one the old. */
		if (fifo_on(s))
			return;
		s->rx_len = 0;
	}
	s->rx[s->rx_len] = byte;
	s->rx_error[s->rx_len++] = error;
}

static uint8_t rx_take(struct serial *ser)
{
	struct serial_state *s = &ser->s;
	uint8_t byte = s->rx_len ? s->rx[0] : 0;

	if (!s->rx_len)
		return 0;
	s->rx_len--;
	memmove(s->rx, s->rx + 1, s->rx_len);
	memmove(s->rx_error, s->rx_error + 1, s->rx_len);
	chardev_resume(ser->chr);
	return byte;
}

static void tx_put(struct serial *ser, uint8_t byte)
{
	struct serial_state *s = &ser->s;

	s->thre_pending = false;
	if (s->mcr & UART_MCR_LOOP)
		rx_put(s, byte, 0);
	else if (s->tx_len || !chardev_write(ser->chr, &byte, 1)) {
		/* A guest that writes although THRE is clear loses characters, as on hardware. */
		if (s->tx_len < rx_size(s))
			s->tx[s->tx_len++] = byte;
	}
	if (!s->tx_len)
		s->thre_pending = true;
}

static void set_msr(struct serial_state *s, uint8_t lines)
{
	uint8_t changed = (s->msr ^ lines) & 0xf0;

	/* Only the end of RI sets its delta bit. */
	if (changed & UART_MSR_RI && lines & UART_MSR_RI)
		changed &= (uint8_t)~UART_MSR_RI;
	s->msr = lines | (s->msr & UART_MSR_ANY_DELTA) | changed >> 4;
}

/* --- registers (lock held) ------------------------------------------------- */

static uint8_t read_reg(struct serial *ser, unsigned reg)
{
	struct serial_state *s = &ser->s;
	bool dlab = s->lcr & UART_LCR_DLAB;
	uint8_t v;

	switch (reg) {
	case UART_RX:
		return dlab ? s->dll : rx_take(ser);
	case UART_IER:
		return dlab ? s->dlm : s->ier;
	case UART_IIR:
		v = iir(s);
		if (v == UART_IIR_THRI)
			s->thre_pending = false;
		return v | (fifo_on(s) ? 0xc0 : 0);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		v = lsr(s);
		s->overrun = 0;
		if (s->rx_len)
			s->rx_error[0] = 0;
		if (!(v & UART_LSR_THRE))
			s->lsr_reads = 0;
		else if (s->lsr_reads < POLLS && ++s->lsr_reads == POLLS) {
			s->polls = true;
			chardev_resume(ser->chr);
		}
		return v;
	case UART_MSR:
		v = s->msr;
		s->msr &= 0xf0;
		return v;
	default:
		return s->scr;
	}
}

static void write_fcr(struct serial *ser, uint8_t v)
{
	struct serial_state *s = &ser->s;

	/*
	 * On the chip, switching clears both FIFOs. Here switching on keeps the one character that
	 * may be there: Linux enables the receiver first and the FIFO right after.
	 */
	if (fifo_on(s) && !(v & UART_FCR_ENABLE_FIFO))
		v |= UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT;
	if (v & UART_FCR_CLEAR_RCVR) {
		/* A driver starts: it must show again that it reads. */
		s->polls = false;
		s->lsr_reads = 0;
		s->rx_len = 0;
	}
	if (v & UART_FCR_CLEAR_XMIT && s->tx_len) {
		s->tx_len = 0;
		s->thre_pending = true;
	}
	/* Without the enable bit the UART ignores the other bits. */
	s->fcr = v & UART_FCR_ENABLE_FIFO ? v & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK) : 0;
	chardev_resume(ser->chr);
}

static void write_mcr(struct serial *ser, uint8_t v)
{
	struct serial_state *s = &ser->s;
	uint8_t lines = MSR_IDLE;

	s->mcr = v & 0x1f;
	if (v & UART_MCR_LOOP) {
		lines = v & UART_MCR_RTS ? UART_MSR_CTS : 0;
		lines |= v & UART_MCR_DTR ? UART_MSR_DSR : 0;
		lines |= v & UART_MCR_OUT1 ? UART_MSR_RI : 0;
		lines |= v & UART_MCR_OUT2 ? UART_MSR_DCD : 0;
	}
	set_msr(s, lines);
	if (listens(s))
		chardev_resume(ser->chr);
}

static void write_reg(struct serial *ser, unsigned reg, uint8_t v)
{
	struct serial_state *s = &ser->s;
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab)
			s->dll = v;
		else
			tx_put(ser, v);
		break;
	case UART_IER:
		if (dlab) {
			s->dlm = v;
			break;
		}
		v &= 0xf;
		/* Enabling the interrupt of an empty transmitter raises it; Linux tests that. */
		if (v & UART_IER_THRI && !(s->ier & UART_IER_THRI) && !s->tx_len)
			s->thre_pending = true;
		s->ier = v;
		if (listens(s))
			chardev_resume(ser->chr);
		break;
	case UART_FCR:
		write_fcr(ser, v);
		break;
	case UART_LCR:
		s->lcr = v;
		break;
	case UART_MCR:
		write_mcr(ser, v);
		break;
	case UART_SCR:
		s->scr = v;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

/* The registers have 8 bits: a wider access is one access for each byte, as ISA splits it. */
static uint64_t serial_read(void *opaque, uint64_t off, unsigned size_bytes)
{
	struct serial *ser = opaque;
	uint64_t val = 0;

	pthread_mutex_lock(&ser->lock);
	for (unsigned i = 0; i < size_bytes; i++) {
		unsigned reg = (unsigned)(off + i) & 7;

		if (reg != UART_LSR)
			ser->s.lsr_reads = 0;
		val |= (uint64_t)read_reg(ser, reg) << (8 * i);
	}
	update_line(ser);
	pthread_mutex_unlock(&ser->lock);
	return val;
}

static void serial_write(void *opaque, uint64_t off, unsigned size_bytes, uint64_t val)
{
	struct serial *ser = opaque;

	pthread_mutex_lock(&ser->lock);
	ser->s.lsr_reads = 0;
	for (unsigned i = 0; i < size_bytes; i++)
		write_reg(ser, (unsigned)(off + i) & 7, (uint8_t)(val >> (8 * i)));
	update_line(ser);
	pthread_mutex_unlock(&ser->lock);
}

static const struct bus_ops serial_bus = { serial_read, serial_write };

/* --- the host's side (loop's thread) --------------------------------------- */

static size_t serial_input(void *opaque, const uint8_t *buf, size_t len)
{
	struct serial *ser = opaque;
	struct serial_state *s = &ser->s;
	size_t n = 0;

	pthread_mutex_lock(&ser->lock);
	while (n < len && listens(s) && s->rx_len < rx_size(s))
		rx_put(s, buf[n++], 0);
	update_line(ser);
	pthread_mutex_unlock(&ser->lock);
	return n;
}

static void serial_break(void *opaque)
{
	struct serial *ser = opaque;

	pthread_mutex_lock(&ser->lock);
	if (listens(&ser->s))
		rx_put(&ser->s, 0, UART_LSR_BI);
	update_line(ser);
	pthread_mutex_unlock(&ser->lock);
}

static void serial_drained(void *opaque)
{
	struct serial *ser = opaque;
	struct serial_state *s = &ser->s;
	size_t n;

	pthread_mutex_lock(&ser->lock);
	n = chardev_write(ser->chr, s->tx, s->tx_len);
	if (s->tx_len && n == s->tx_len)
		s->thre_pending = true;
	s->tx_len -= (uint8_t)n;
	memmove(s->tx, s->tx + n, s->tx_len);
	update_line(ser);
	pthread_mutex_unlock(&ser->lock);
}

static void serial_failed(void *opaque)
{
	struct serial *ser = opaque;

	ser->env->ops->event(ser->env->vm, VM_EVENT_LOST_OUTPUT);
}

/* --- life ------------------------------------------------------------------ */

static void serial_destroy(struct device *dev)
{
	struct serial *ser = (struct serial *)dev;

	if (ser->added)
		bus_remove(ser->env->pio, ser->config.port);
	chardev_release(ser->chr);
	pthread_mutex_destroy(&ser->lock);
	free(ser);
}

static void serial_describe(struct device *dev, char *buf, size_t len)
{
	struct serial *ser = (struct serial *)dev;

	snprintf(buf, len, "16550A at port 0x%x, irq %u: %s", ser->config.port, ser->config.gsi,
		 chardev_describe(ser->chr));
}

static const struct device_ops serial_ops = {
	.destroy = serial_destroy,
	.describe = serial_describe,
};

static int serial_create(const struct device_env *env, const struct keyvals *cfg,
			 const struct serial_config *config, struct device **out, struct err *err)
{
	struct chardev_user user = { .input = serial_input,
				     .drained = serial_drained,
				     .send_break = serial_break,
				     .failed = serial_failed };
	struct serial *ser;
	int rc;

	*out = NULL;
	if (chardev_off(cfg))
		return 0;
	ser = calloc(1, sizeof(*ser));
	if (!ser)
		return err_sys(err, ENOMEM, "%s", cfg->option);
	ser->dev.type = &serial_type;
	ser->dev.ops = &serial_ops;
	snprintf(ser->dev.id, sizeof(ser->dev.id), "serial-%x", config->port);
	ser->env = env;
	ser->config = *config;
	ser->s.msr = MSR_IDLE;
	ser->s.dll = 1; /* 115200 baud, if the guest reads it */
	pthread_mutex_init(&ser->lock, NULL);
	rc = chardev_obtain(env->consoles, env->id, cfg, env->loop, env->dry_run, &ser->chr, err);
	if (rc)
		goto fail;
	rc = bus_add(env->pio, config->port, 8, &serial_bus, ser);
	if (rc) {
		err_sys(err, -rc, "%s: port 0x%x", cfg->option, config->port);
		goto fail;
	}
	ser->added = true;
	user.opaque = ser;
	chardev_attach(ser->chr, &user);
	*out = &ser->dev;
	return 0;
fail:
	serial_destroy(&ser->dev);
	return rc;
}

static int create_com(const struct device_env *env, const struct keyvals *cfg, struct device **out,
		      struct err *err)
{
	static const struct serial_config com[SERIAL_PORTS] = {
		{ SERIAL_COM1_PORT, SERIAL_COM1_GSI, 0 },
		{ SERIAL_COM2_PORT, SERIAL_COM2_GSI, 0 },
	};

	BUG_ON(env->nth >= SERIAL_PORTS);
	return serial_create(env, cfg, &com[env->nth], out, err);
}

const struct device_type serial_type = {
	.name = "serial",
	.option = "--serial",
	.repeat = true,
	.max = SERIAL_PORTS,
	.keys = chardev_keys,
	.help = "a serial port (16550A): the first is ttyS0, the second ttyS1",
	.create = create_com,
};
