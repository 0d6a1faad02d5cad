#include "units/resources.h"

#include "base/parse.h"
#include "units/class.h"
#include "units/lists.h"

enum {
        MILLION = 1000000,
        DEFAULT_MIB = 64,     /* of a unit without a setting */
        DEFAULT_PERCENT = 10, /* with CPUWeight=100 */
};

const Resources resources_default = { DEFAULT_MIB, DEFAULT_PERCENT };

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

void resources_append(Text *t, uint64_t n, bool memory) {
        if (!memory)
                text_printf(t, "%llu%%", (unsigned long long) n);
        else if (n < 1024)
                text_printf(t, "%lluM", (unsigned long long) n);
        else
                text_printf(t, "%llu.%lluG", (unsigned long long) n / 1024,
                            (unsigned long long) (n % 1024) * 10 / 1024);
}

int resources_parse_percent(const char *s, uint32_t *ret_percent) {
        Millionths n;

        TRY(resources_read_number(&s, &n));
        if (s[0] != '%' || s[1])
                return -EINVAL;
        *ret_percent = resources_scale(n, 1, MILLION);
        return 0;
}

/* The settings of a file in MiB and percent; 0: none. */
typedef struct Sizes {
        uint32_t min, low, high, max, quota, weight; /* of systemd */
        uint32_t container;                          /* Memory= of a container */
        uint32_t memory, cpus;                       /* of PodmanArgs= */
} Sizes;

static int resources_read_limit(const char *s, uint32_t *ret) {
        return streq(s, "infinity") || ends_with(s, "%") ? 0 : resources_parse_memory(s, false, ret);
}

static int resources_read_weight(const char *s, uint32_t *ret) {
        uint64_t weight = 1;

        if (!streq(s, "idle") && (parse_u64(s, &weight) < 0 || weight < 1 || weight > 10000))
                return -EINVAL;
        *ret = (uint32_t) MIN(MAX(weight * DEFAULT_PERCENT / 100, 1u), 100u);
        return 0;
}

static int resources_read_container(const char *s, uint32_t *ret) {
        return resources_parse_memory(s, true, ret);
}

static const struct {
        const char *name;
        size_t field;
        int (*read)(const char *s, uint32_t *ret); /* an empty value resets */
        bool in_container;
} size_settings[] = {
        { "MemoryMin", offsetof(Sizes, min), resources_read_limit },
        { "MemoryLow", offsetof(Sizes, low), resources_read_limit },
        { "MemoryHigh", offsetof(Sizes, high), resources_read_limit },
        { "MemoryMax", offsetof(Sizes, max), resources_read_limit },
        { "CPUQuota", offsetof(Sizes, quota), resources_parse_percent },
        { "CPUWeight", offsetof(Sizes, weight), resources_read_weight },
        { "Memory", offsetof(Sizes, container), resources_read_container, true },
};

/* Return the value of a flag of podman at words[*i], and advance *i to it; NULL: another word is there. */
static const char *resources_flag(const Names *words, size_t *i, const char *flag) {
        const char *word = words->items[*i];
        size_t n = strlen(flag);

        if (!starts_with(word, flag))
                return NULL;
        if (!word[n])
                return *i + 1 < words->n ? words->items[++*i] : "";
        if (word[n] == '=')
                return word + n + 1;
        return flag[1] != '-' ? word + n : NULL; /* -m300m */
}

static int resources_read_arguments(const char *value, Sizes *ret) {
        _cleanup_names_ Names words = {};
        int r = names_split(value, &words);

        if (!*value)
                ret->memory = ret->cpus = 0;
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        for (size_t i = 0; i < words.n; i++) {
                const char *flag = resources_flag(&words, &i, "--memory"), *cpus;
                Millionths n;

                if (!flag)
                        flag = resources_flag(&words, &i, "-m");
                cpus = flag ? NULL : resources_flag(&words, &i, "--cpus");
                if (flag)
                        (void) resources_parse_memory(flag, true, &ret->memory);
                if (cpus && resources_read_number(&cpus, &n) >= 0 && !*cpus)
                        ret->cpus = resources_scale(n, 100, MILLION);
        }
        return 0;
}

static void resources_read_setting(const char *name, const UnitOption *o, Sizes *ret) {
        for (size_t i = 0; i < ELEMENTS(size_settings); i++) {
                uint32_t value = 0;

                if (streq(o->name, size_settings[i].name) &&
                    (size_settings[i].in_container ? unit_class_has_container(name, o->section) :
                                                     unit_class_has_processes(name, o->section)) &&
                    (!*o->value || size_settings[i].read(o->value, &value) >= 0))
                        *(uint32_t *) ((char *) ret + size_settings[i].field) = value;
        }
}

int resources_of_file(const char *name, const UnitFile *file, Resources request, Resources *ret,
                      uint32_t *ret_max_mib) {
        Sizes s = {};

        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];

                resources_read_setting(name, o, &s);
                if (streq(o->name, "PodmanArgs") && unit_class_has_container(name, o->section))
                        TRY(resources_read_arguments(o->value, &s));
        }
        *ret = (Resources) {
                .memory_mib = request.memory_mib        ?:
                                      MAX(s.min, s.low) ?:
                                      s.high            ?:
                                      s.max             ?:
                                      s.memory          ?:
                                      s.container       ?:
                                                          DEFAULT_MIB,
                .cpu_percent = request.cpu_percent ?:
                                       s.quota     ?:
                                       s.cpus      ?:
                                       s.weight    ?:
                                                     DEFAULT_PERCENT,
        };
        *ret_max_mib = s.max;
        return 0;
}
