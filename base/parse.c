#include "base/parse.h"

#include <arpa/inet.h>
#include <strings.h>

/* Parse the digits at *s, and advance *s past them. */
static int parse_digits(const char **s, uint64_t *ret) {
        uint64_t v = 0;
        const char *p = *s;

        if (*p < '0' || *p > '9')
                return -EINVAL;

        for (; *p >= '0' && *p <= '9'; p++)
                if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t) (*p - '0'), &v))
                        return -ERANGE;

        *s = p;
        *ret = v;
        return 0;
}

int parse_bool(const char *s, bool *ret) {
        static const char *const yes[] = { "1", "yes", "y", "true", "t", "on" };
        static const char *const no[] = { "0", "no", "n", "false", "f", "off" };

        for (size_t i = 0; i < ELEMENTS(yes); i++) {
                if (strcasecmp(s, yes[i]) != 0 && strcasecmp(s, no[i]) != 0)
                        continue;
                *ret = strcasecmp(s, yes[i]) == 0;
                return 0;
        }
        return -EINVAL;
}

typedef struct Suffix {
        const char *name;
        uint64_t factor;
} Suffix;

static int parse_with_suffix(const char *s, const Suffix *suffixes, size_t n, uint64_t *ret) {
        uint64_t v;

        TRY(parse_digits(&s, &v));

        for (size_t i = 0; i < n; i++)
                if (streq(s, suffixes[i].name)) {
                        if (__builtin_mul_overflow(v, suffixes[i].factor, &v))
                                return -ERANGE;
                        *ret = v;
                        return 0;
                }
        return -EINVAL;
}

int parse_u64(const char *s, uint64_t *ret) {
        return parse_with_suffix(s, &(Suffix) { "", 1 }, 1, ret);
}

int parse_span_ms(const char *s, uint64_t *ret) {
        static const Suffix suffixes[] = {
                { "", 1000 },     { "ms", 1 },    { "s", 1000 },    { "sec", 1000 },
                { "min", 60000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 },
        };

        return parse_with_suffix(s, suffixes, ELEMENTS(suffixes), ret);
}

int parse_size(const char *s, uint64_t *ret) {
        static const Suffix suffixes[] = {
                { "", 1 }, { "B", 1 }, { "K", 1 << 10 }, { "M", 1 << 20 }, { "G", 1 << 30 },
        };

        return parse_with_suffix(s, suffixes, ELEMENTS(suffixes), ret);
}

const char *enum_name(const char *const names[], int n, int value) {
        return value >= 0 && value < n ? names[value] : NULL;
}

int parse_name(const char *s, const char *const names[], int n) {
        for (int i = 0; i < n; i++)
                if (streq(names[i], s))
                        return i;
        return -EINVAL;
}

void hex_print(const void *bytes, size_t n, char *ret) {
        static const char digits[] = "0123456789abcdef";
        const uint8_t *p = bytes;

        for (size_t i = 0; i < n; i++) {
                ret[2 * i] = digits[p[i] >> 4];
                ret[2 * i + 1] = digits[p[i] & 15];
        }
        ret[2 * n] = 0;
}

int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int hex_read(const char *digits, void *ret, size_t n) {
        uint8_t *p = ret;

        for (size_t i = 0; i < n; i++) {
                int high = hex_digit(digits[2 * i]), low = high < 0 ? -1 : hex_digit(digits[2 * i + 1]);

                if (low < 0)
                        return -EINVAL;
                p[i] = (uint8_t) (high << 4 | low);
        }
        return 0;
}

int parse_hex_id(const char *s, size_t digits) {
        return strspn(s, "0123456789abcdef") == digits && s[digits] == 0 ? 0 : -EINVAL;
}

const char *hex64_print(uint64_t id, char ret[static HEX64_SIZE]) {
        snprintf(ret, HEX64_SIZE, "%016llx", (unsigned long long) id);
        return ret;
}

int parse_address(const char *s, char *ret_host, size_t host_size, uint16_t *ret_port) {
        const char *colon = strrchr(s, ':'), *host = s;
        size_t size = colon ? (size_t) (colon - s) : 0;
        uint64_t port;
        int r;

        if (size == 0)
                return -EINVAL;
        if (host[0] == '[') {
                if (size < 3 || host[size - 1] != ']')
                        return -EINVAL;
                host++;
                size -= 2;
        } else if (memchr(host, ':', size))
                return -EINVAL;

        if (memchr(host, '[', size) || memchr(host, ']', size))
                return -EINVAL;

        r = parse_u64(colon + 1, &port);
        if (r < 0 || port == 0 || port > UINT16_MAX || size >= host_size)
                return -EINVAL;

        memcpy(ret_host, host, size);
        ret_host[size] = 0;
        *ret_port = port;
        return 0;
}

bool ip_address_canonical(const char *s, char ret[static IP_ADDRESS_SIZE]) {
        struct in6_addr six;
        struct in_addr four;
        int r = inet_pton(AF_INET, s, &four);

        if (r != 1 && (r = inet_pton(AF_INET6, s, &six)) == 1) {
                if (!IN6_IS_ADDR_V4MAPPED(&six))
                        return inet_ntop(AF_INET6, &six, ret, IP_ADDRESS_SIZE);
                memcpy(&four, &six.s6_addr[12], sizeof(four));
        }
        return r == 1 && inet_ntop(AF_INET, &four, ret, IP_ADDRESS_SIZE);
}

bool text_is_ip_address(const char *s) {
        char address[IP_ADDRESS_SIZE];

        return ip_address_canonical(s, address);
}

/* Read one character of a class, escaped or not. Return the next position, or NULL: '-' and ']' need an
 * escape. */
static const char *glob_class_char(const char *p, unsigned char *ret) {
        if (*p == '-' || *p == ']')
                return NULL;
        if (*p == '\\')
                p++;
        if (!*p)
                return NULL;
        *ret = *p;
        return p + 1;
}

/* Match 'c' against the class "[a-z^...]" at 'p'. Return the end of the class, or NULL if it is malformed. */
static const char *glob_class(const char *p, unsigned char c, bool *ret, size_t *steps) {
        bool negated = false, hit = false;
        size_t n = 0;

        p++;
        if (*p == '^') {
                negated = true;
                p++;
        }
        for (; *p != ']' || n == 0; n++) {
                unsigned char low, high;

                ++*steps;
                p = glob_class_char(p, &low);
                if (!p)
                        return NULL;
                high = low;
                if (*p == '-')
                        p = glob_class_char(p + 1, &high);
                if (!p)
                        return NULL;
                hit |= low <= c && c <= high;
        }
        *ret = hit != negated;
        return p + 1;
}

/* As in Go, a malformed part after the position where matching fails is not examined; the result is the same.
 */
bool glob_match_counted(const char *pattern, const char *name, size_t *steps) {
        const char *star = NULL, *retry = NULL;

        for (;;) {
                const char *next = NULL;
                bool hit = false;

                ++*steps;
                if (*pattern == '*') {
                        star = ++pattern;
                        retry = name;
                        continue;
                }
                if (*pattern == 0 && *name == 0)
                        return true;
                if (*pattern && *name) {
                        if (*pattern == '?') {
                                hit = *name != '/';
                                next = pattern + 1;
                        } else if (*pattern == '[') {
                                next = glob_class(pattern, *name, &hit, steps);
                                if (!next)
                                        return false;
                        } else if (*pattern == '\\') {
                                if (!pattern[1])
                                        return false;
                                hit = pattern[1] == *name;
                                next = pattern + 2;
                        } else {
                                hit = *pattern == *name;
                                next = pattern + 1;
                        }
                }
                if (hit) {
                        pattern = next;
                        name++;
                        continue;
                }
                if (!star || !*retry || *retry == '/')
                        return false;
                name = ++retry;
                pattern = star;
        }
}

bool glob_match(const char *pattern, const char *name) {
        size_t unused = 0;

        return glob_match_counted(pattern, name, &unused);
}
