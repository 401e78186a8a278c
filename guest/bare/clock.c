/* clock: the CMOS clock gives a plausible date, in BCD and in binary, and the time advances. */
#include "guest/bare/lib/rt.h"

static uint8_t cmos(uint8_t reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

static unsigned number(uint8_t v, uint8_t b)
{
	return b & 4 ? v : (unsigned)(v >> 4) * 10 + (v & 15);
}

void main(void)
{
	uint8_t b = cmos(0x0b);
	unsigned loops = 0;

	ok((cmos(0x0d) & 0x80) != 0, "register D says the time is valid");
	ok(b & 2, "24-hour mode");
	while ((cmos(0x0a) & 0x80) && loops < 100000)
		loops++;
	ok(loops < 100000, "the update in progress bit clears");
	unsigned s = number(cmos(0), b), m = number(cmos(2), b), h = number(cmos(4), b);
	unsigned day = number(cmos(7), b), month = number(cmos(8), b), year = number(cmos(9), b);
	unsigned century = number(cmos(0x32), b);
	ok(s < 60 && m < 60 && h < 24 && day >= 1 && day <= 31 && month >= 1 && month <= 12,
	   "plausible fields");
	rt_print("time %u%s%u-%s%u-%s%u %s%u:%s%u:%s%u\n", century, year < 10 ? "0" : "", year,
		 month < 10 ? "0" : "", month, day < 10 ? "0" : "", day, h < 10 ? "0" : "", h,
		 m < 10 ? "0" : "", m, s < 10 ? "0" : "", s);
	uint64_t begin = now_us();
	while (number(cmos(0), b) == s && now_us() - begin < 3000000)
		relax();
	uint64_t took = now_us() - begin;
	ok(took < 1500000, "the second changes within %lu ms", took / 1000);
	for (unsigned i = 0; i < 256; i++)
		cmos((uint8_t)i);
	ok(true, "every index can be read");
}
