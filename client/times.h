/* Times of the command line, for --since and --until, and spans in messages. */
#pragma once

#include "base/error.h"
#include "base/text.h"

/* Parse a time in the local time zone, in the formats of systemd.time(7): a span before now ("1h30min",
 * "-5min", "2h ago"), "@SECONDS", "now", "today", "yesterday", "tomorrow" (also with a time of day), a date, a
 * time of day, or both; with an optional English weekday before and " UTC" or "Z" after them. *ret_ms is wall-clock time. -EINVAL:
 * no such time; -ERANGE: before 1970. */
int times_parse(const char *s, uint64_t now_ms, uint64_t *ret_ms);

/* Parse the value of a flag, which is NULL if the flag was not given: *ret_ms is 0 then. Return EXIT_DONE, or
 * EXIT_USAGE after a message that names the flag. */
int times_of_flag(const char *flag, const char *value, uint64_t *ret_ms);

/* Append "4 min", in the largest unit of time. */
void append_span(Text *t, uint64_t ms);
/* Write date and time of day, in the local time zone; "" for 0. Returns 'ret'. */
const char *times_date(uint64_t ms, char ret[static 32]);
/* Append a time of the wall clock: "18:20", with the date if that is not today's. */
void append_clock(Text *t, uint64_t ms, bool seconds);
