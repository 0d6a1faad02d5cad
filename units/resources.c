#include "units/resources.h"

enum { MILLION = 1000000 };

/* Millionths: any number of a file fits, up to a limit above all results. */
typedef unsigned __int128 Millionths;

/* Read "12" or "1.5" at *s, and advance *s past it. -EINVAL. */
static int resources_read_number(const char **s, Millionths *ret) {
        const char *p = *s, digits[] = "0123456789";
        size_t whole = strspn(p, digits), fraction = p[whole] == '.' ? strspn(p + whole + 1, digits) : 0;
        Millionths n = 0;

        if (whole == 0 || (p[whole] == '.' && fraction == 0))
                return -EINVAL;
        for (; whole > 0; whole--, p++)
                n = n < UINT64_MAX / 16 ? n * 10 + (unsigned) (*p - '0') : n;
        n *= MILLION;
        p += fraction > 0;
        for (unsigned unit = MILLION / 10; fraction > 0; fraction--, p++, unit /= 10)
                n += unit > 0 ? (unsigned) (*p - '0') * unit : *p != '0'; /* rounded up */
        *s = p;
        *ret = n;
        return 0;
}

static uint32_t resources_scale(Millionths n, uint64_t factor, uint64_t divisor) {
        Millionths scaled = (n * factor + divisor - 1) / divisor;

        return scaled < UINT32_MAX ? (uint32_t) scaled : UINT32_MAX;
}

int resources_parse_memory(const char *s, bool podman, uint32_t *ret_mib) {
        static const char units[] = "BKMGTPE";
        const char *unit;
        unsigned power = 0;
        Millionths n;

        TRY(resources_read_number(&s, &n));
        s += strspn(s, " ");
        unit = *s ? strchr(units, podman && *s >= 'a' ? *s - 'a' + 'A' : *s) : NULL;
        if (unit) {
                power = (unsigned) (unit - units);
                s++;
        }
        if (podman && power > 0) {
                s += *s == 'i' || *s == 'I';
                s += *s == 'b' || *s == 'B';
        }
        if (*s)
                return -EINVAL;
        *ret_mib = resources_scale(n, power > 2 ? 1ull << (power - 2) * 10 : 1,
                                   power < 2 ? (uint64_t) MILLION << (2 - power) * 10 : MILLION);
        return 0;
}

int resources_parse_percent(const char *s, uint32_t *ret_percent) {
        Millionths n;

        TRY(resources_read_number(&s, &n));
        if (s[0] != '%' || s[1])
                return -EINVAL;
        *ret_percent = resources_scale(n, 1, MILLION);
        return 0;
}
