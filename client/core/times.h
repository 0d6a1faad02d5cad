/* Times of the command line, for --since and --until, and in messages. */
#pragma once

#include "base/error.h"
#include "base/text.h"
#include "client/core/options.h"

/* Parse --since= and --until= of a verb that prints the past: 0 if one was not given. Return EXIT_DONE, or
 * EXIT_USAGE after a message: no such time, a begin in the future, an end before it, or one with --follow. */
int times_of_range(const Options *o, uint64_t *ret_since_ms, uint64_t *ret_until_ms);

/* Write date and time of day, in the local time zone; "" for 0. Returns 'ret'. */
const char *times_date(uint64_t ms, char ret[static 32]);
/* Append a time of the wall clock: "18:20", with the date if that is not the one of 'now_ms'; 0: always. */
void append_clock(Text *t, uint64_t ms, uint64_t now_ms, bool seconds);
/* Append " 4 min ago" in the largest unit of time, or " just now"; nothing for 0. */
void append_age(Text *t, uint64_t since_ms);
