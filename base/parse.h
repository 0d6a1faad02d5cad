/* Reading small values out of text: numbers, booleans, spans, sizes. Each returns 0, or -EINVAL / -ERANGE and
 * leaves *ret untouched; nothing is trimmed, nothing is guessed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int parse_u64(const char *s, uint64_t *ret); /* decimal digits only */
int parse_bool(const char *s, bool *ret);    /* systemd's words: 1 yes y true t on, 0 no n false f off */
int parse_span_ms(const char *s,
                  uint64_t *ret); /* "500ms", "3s", "2min", "1h", "1d"; a bare number is seconds */
int parse_size(const char *s,
               uint64_t *ret); /* "64K", "16M", "1G" (powers of 1024); a bare number is bytes */
int parse_hex_id(const char *s, size_t digits); /* 0 if exactly so many lower-case hex digits */
int hex_digit(char c);                          /* 0 to 15, or -1 if it is none, in either case */

/* "ADDR:PORT" or "[ADDR6]:PORT" into parts; host is given without brackets. -EINVAL when either is missing or
 * port is 0 or above 65535. */
int parse_address(const char *s, char *ret_host, size_t host_size, uint16_t *ret_port);

/* Matches a whole name against Go's path.Match, which is what fleet's globs are: '*' and '?' never match '/',
 * classes negate by '^', backslash escapes; a malformed pattern matches nothing. */
bool glob_match(const char *pattern, const char *name);

/* The same; adds to *steps what it took, about one for each byte that was compared. At worst that is the
 * product of both lengths. */
bool glob_match_counted(const char *pattern, const char *name, size_t *steps);
