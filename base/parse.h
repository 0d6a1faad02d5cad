/* Parsing of small values: numbers, booleans, time spans, sizes, names of enums, addresses, globs. Each
 * function returns 0, or -EINVAL or -ERANGE and leaves *ret untouched. Surrounding spaces are errors. */
#pragma once

#include "base/memory.h"
#include "base/sizes.h"

int parse_u64(const char *s, uint64_t *ret); /* decimal digits only */
int parse_bool(const char *s, bool *ret);    /* as systemd: 1 yes y true t on, 0 no n false f off */
/* "500ms", "3s", "2min", "1h", "1d"; a plain number is in seconds. */
int parse_span_ms(const char *s, uint64_t *ret);
/* "64K", "16M", "1G" (powers of 1024); a plain number is in bytes. */
int parse_size(const char *s, uint64_t *ret);
int parse_hex_id(const char *s, size_t digits); /* exactly this number of lower-case hex digits */
/* Write two lower-case digits for each byte, and a 0. */
void hex_print(const void *bytes, size_t n, char *ret);
int hex_read(const char *digits, void *ret, size_t n); /* n bytes of 2 * n digits */
int hex_digit(char c);                                 /* 0 to 15; -1: not a hex digit of either case */

/* Write 16 hex digits, the one form of the IDs of clusters and lineages. Return 'ret'. */
const char *hex64_print(uint64_t id, char ret[static HEX64_SIZE]);

/* Return the position of 's' among the names, or -EINVAL. */
int parse_name(const char *s, const char *const names[], int n);
#define IS_AMONG(s, names) (parse_name(s, names, ELEMENTS(names)) >= 0)
/* Return the name at a position, or NULL. */
const char *enum_name(const char *const names[], int n, int value);
/* Declare PREFIX_names[], and PREFIX_to_string() and PREFIX_from_string(), which convert by them. */
#define ENUM_NAMES(prefix, Type, max)                              \
        extern const char *const prefix##_names[max];              \
        static inline const char *prefix##_to_string(Type value) { \
                return enum_name(prefix##_names, max, value);      \
        }                                                          \
        static inline Type prefix##_from_string(const char *s) {   \
                return (Type) parse_name(s, prefix##_names, max);  \
        }

/* Split "ADDR:PORT" or "[ADDR6]:PORT"; *ret_host has no brackets. -EINVAL: a part is missing, or the port is
 * 0 or above 65535. */
int parse_address(const char *s, char *ret_host, size_t host_size, uint16_t *ret_port);

enum { IP_ADDRESS_SIZE = 46 }; /* INET6_ADDRSTRLEN */

bool text_is_ip_address(const char *s); /* IPv4 or IPv6, without a zone, brackets or a port */
/* Write the only text by which addresses are compared: as inet_ntop() does, an IPv4 address that is mapped to
 * IPv6 as itself. 'ret' may be 's'. False: 's' is no address, and 'ret' is as it was. */
bool ip_address_canonical(const char *s, char ret[static IP_ADDRESS_SIZE]);

/* Match a whole name as Go's path.Match does, which fleet uses: '*' and '?' never match '/', '^' negates a
 * class, backslash escapes; a malformed pattern matches no name. */
bool glob_match(const char *pattern, const char *name);

/* The same; add the cost to *steps, about one per compared byte, at most the product of both lengths. */
bool glob_match_counted(const char *pattern, const char *name, size_t *steps);
