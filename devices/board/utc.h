/*
 * utc: dates of the clock that has no time zones, as gmtime and timegm make them. Those of the C library read
 * /etc/localtime at their first call, which a confined vCPU cannot.
 *
 * From days to the date of the proleptic Gregorian calendar and back: years begin in March, so that a leap day is
 * the last one, and 400 years are 146097 days. Any thread.
 */
#ifndef BANTAM_UTC_H
#define BANTAM_UTC_H

#include <stdint.h>
#include <time.h>

#define UTC_DAY_S 86400
#define UTC_ERA_DAYS 146097
/* From 1 March 0 to 1 January 1970. */
#define UTC_EPOCH_DAYS 719468

static inline int64_t utc_floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Fills the fields of *tm but tm_yday and tm_isdst. t: of the years that fit into tm_year. */
static inline void utc_from_time(int64_t t, struct tm *tm)
{
	int64_t day = utc_floor_div(t, UTC_DAY_S), s = t - day * UTC_DAY_S;
	int64_t z = day + UTC_EPOCH_DAYS, era = utc_floor_div(z, UTC_ERA_DAYS);
	int64_t of_era = z - era * UTC_ERA_DAYS;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t march = (5 * of_year + 2) / 153; /* 0: March */

	*tm = (struct tm){
		.tm_sec = (int)(s % 60),
		.tm_min = (int)(s / 60 % 60),
		.tm_hour = (int)(s / 3600),
		.tm_mday = (int)(of_year - (153 * march + 2) / 5 + 1),
		.tm_mon = (int)(march < 10 ? march + 2 : march - 10),
		.tm_year = (int)(year + era * 400 + (march >= 10) - 1900),
		.tm_wday = (int)((day % 7 + 11) % 7),
	};
}

/* Returns the seconds since 1970. Fields out of their ranges count on, as with timegm. */
static inline int64_t utc_to_time(const struct tm *tm)
{
	int64_t year = tm->tm_year + 1900ll + utc_floor_div(tm->tm_mon, 12);
	int64_t month = tm->tm_mon - utc_floor_div(tm->tm_mon, 12) * 12;
	int64_t march = month < 2 ? month + 10 : month - 2, era, of_era;

	year -= month < 2;
	era = utc_floor_div(year, 400);
	of_era = year - era * 400;
	of_era = of_era * 365 + of_era / 4 - of_era / 100 + (153 * march + 2) / 5;
	return (era * UTC_ERA_DAYS + of_era - UTC_EPOCH_DAYS + tm->tm_mday - 1) * UTC_DAY_S +
	       tm->tm_hour * 3600ll + tm->tm_min * 60ll + tm->tm_sec;
}

#endif
