#include "client/core/times.h"

#include <time.h>

#include "base/clock.h"
#include "base/parse.h"
#include "client/core/client.h"

enum { TIME_SIZE = 64 };

/* Parse "1h30min". */
static int times_span(const char *s, uint64_t *ret_ms) {
        static const struct {
                const char *names;
                uint64_t ms;
        } units[] = { { "s sec second seconds", 1000 },
                      { "m min minute minutes", 60000 },
                      { "h hr hour hours", 3600000 },
                      { "d day days", 86400000 },
                      { "w week weeks", 604800000 } };
        uint64_t sum = 0;

        if (!*s)
                return -EINVAL;
        while (*s) {
                size_t n = strspn(s, "0123456789"), gap = strspn(s + n, " "),
                       size = strcspn(s + n + gap, "0123456789 ");
                const char *unit = s + n + gap;
                char digits[16] = {}, name[TIME_SIZE];
                uint64_t number = 0, ms = 0;

                if (n == 0 || n >= sizeof(digits))
                        return -EINVAL;
                memcpy(digits, s, n);
                snprintf(name, sizeof(name), "%.*s", (int) size, unit);
                for (size_t i = 0; i < ELEMENTS(units); i++)
                        if (text_has_word(units[i].names, name))
                                ms = units[i].ms;
                if (ms == 0 || parse_u64(digits, &number) < 0 || number > 1000000)
                        return -EINVAL;
                sum += number * ms;
                s = unit + size;
                s += strspn(s, " ");
        }
        *ret_ms = sum;
        return 0;
}

/* Parse "-1h", "1h", "1h ago" or "+1h". */
static int times_relative(const char *s, uint64_t now_ms, uint64_t *ret_ms) {
        size_t size = ends_with(s, " ago") ? strlen(s) - strlen(" ago") : strlen(s),
               sign = *s == '-' || *s == '+';
        char copy[TIME_SIZE];
        uint64_t span;

        snprintf(copy, sizeof(copy), "%.*s", (int) (size - sign), s + sign);
        if (times_span(copy, &span) < 0)
                return -EINVAL;
        if (*s == '+')
                *ret_ms = now_ms + span;
        else
                *ret_ms = now_ms > span ? now_ms - span : 1;
        return 0;
}

/* Skip the weekday of "Fri 2026-01-30 12:00". */
static const char *times_skip_weekday(const char *s) {
        static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };

        for (size_t i = 0; i < ELEMENTS(days); i++)
                if (starts_with(s, days[i]))
                        return s + strcspn(s, " ") + strspn(s + strcspn(s, " "), " ");
        return s;
}

/* Parse a date, a time of day, or both. Missing parts are those of 'today', whose time is 00:00:00. */
static int times_absolute(const char *s, const struct tm *today, bool utc, uint64_t *ret_ms) {
        static const char *const formats[] = {
                "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d",
                "%H:%M:%S",          "%H:%M"
        };

        for (size_t i = 0; i < ELEMENTS(formats); i++) {
                struct tm when = *today;
                const char *end = strptime(s, formats[i], &when);
                time_t t;

                if (end && *end == '.' && ends_with(formats[i], "%S"))
                        end += 1 + strspn(end + 1, "0123456789");
                if (!end || *end)
                        continue;
                t = utc ? timegm(&when) : mktime(&when);
                if (t < 0)
                        return -ERANGE;
                *ret_ms = (uint64_t) t * 1000;
                return 0;
        }
        return -EINVAL;
}

/* Parse a time in the local time zone, in the formats of systemd.time(7): a span before now ("1h30min",
 * "-5min", "2h ago"), "@SECONDS", "now", "today", "yesterday", "tomorrow" (also with a time of day), a date,
 * a time of day, or both; with an optional English weekday before and " UTC" or "Z" after them. *ret_ms is
 * wall-clock time. -EINVAL: no such time; -ERANGE: before 1970. */
static int times_parse(const char *s, uint64_t now_ms, uint64_t *ret_ms) {
        static const struct {
                const char *name;
                int days;
        } days[] = { { "today", 0 }, { "yesterday", -1 }, { "tomorrow", 1 } };
        bool utc = ends_with(s, " UTC") || ends_with(s, "Z");
        time_t now = (time_t) (now_ms / 1000);
        char copy[TIME_SIZE];
        const char *text;
        struct tm today = {};
        uint64_t seconds;

        if (strlen(s) >= sizeof(copy))
                return -EINVAL;
        if (streq(s, "now")) {
                *ret_ms = now_ms;
                return 0;
        }
        if (*s == '@' && parse_u64(s + 1, &seconds) >= 0 && seconds < UINT64_MAX / 1000) {
                *ret_ms = seconds * 1000;
                return 0;
        }
        if (times_relative(s, now_ms, ret_ms) >= 0)
                return 0;

        (void) (utc ? gmtime_r(&now, &today) : localtime_r(&now, &today));
        today.tm_hour = today.tm_min = today.tm_sec = 0;
        today.tm_isdst = -1;
        snprintf(copy, sizeof(copy), "%s", s);
        if (utc)
                copy[strlen(copy) - (ends_with(copy, " UTC") ? strlen(" UTC") : strlen("Z"))] = 0;
        text = copy;
        for (size_t i = 0; i < ELEMENTS(days); i++) {
                size_t n = strlen(days[i].name);

                if (!starts_with(copy, days[i].name) || (copy[n] && copy[n] != ' '))
                        continue;
                today.tm_mday += days[i].days;
                text = copy[n] ? copy + n + 1 : "00:00";
                if (!strchr("0123456789", *text) || strchr(text, '-'))
                        return -EINVAL;
        }
        return times_absolute(times_skip_weekday(text), &today, utc, ret_ms);
}

/* Parse the value of a flag, or NULL: 0. */
static int times_of_flag(const char *flag, const char *value, uint64_t now_ms, uint64_t *ret_ms) {
        int r;

        *ret_ms = 0;
        if (!value)
                return EXIT_DONE;
        r = times_parse(value, now_ms, ret_ms);
        if (r >= 0)
                return EXIT_DONE;
        if (r == -ERANGE)
                client_note("%s=%s: expected a time after 1970", flag, value);
        else
                client_note("%s=%s: expected a time, for example -1h, 12:00, yesterday or 2026-01-31 12:00",
                            flag, value);
        return EXIT_USAGE;
}

int times_of_range(const Options *o, uint64_t *ret_since_ms, uint64_t *ret_until_ms) {
        uint64_t now_ms = clock_real_ms();

        if (times_of_flag("--since", o->since, now_ms, ret_since_ms) != EXIT_DONE ||
            times_of_flag("--until", o->until, now_ms, ret_until_ms) != EXIT_DONE)
                return EXIT_USAGE;
        if (*ret_since_ms > now_ms && o->since[strspn(o->since, "0123456789:")] == 0) /* a time of day */
                client_note("--since=%s: this time is in the future; that of yesterday is "
                            "--since='yesterday %s'",
                            o->since, o->since);
        else if (*ret_since_ms > now_ms)
                client_note("--since=%s: this time is in the future; expected one in the past", o->since);
        else if (o->until && o->follow)
                client_note("--until=%s: not with --follow, which has no end", o->until);
        else if (o->until && *ret_until_ms < *ret_since_ms)
                client_note("--until=%s: this time is before --since=%s", o->until, o->since);
        else
                return EXIT_DONE;
        return EXIT_USAGE;
}

void append_clock(Text *t, uint64_t ms, uint64_t now_ms, bool seconds) {
        time_t at = (time_t) (ms / 1000), now = (time_t) (now_ms / 1000);
        struct tm when = {}, today = {};
        char text[32];

        (void) localtime_r(&at, &when);
        (void) localtime_r(&now, &today);
        if (now_ms == 0 || when.tm_year != today.tm_year || when.tm_yday != today.tm_yday) {
                if (strftime(text, sizeof(text), "%Y-%m-%d ", &when) > 0)
                        text_append(t, text);
        }
        if (strftime(text, sizeof(text), seconds ? "%H:%M:%S" : "%H:%M", &when) > 0)
                text_append(t, text);
}

void append_age(Text *t, uint64_t since_ms) {
        uint64_t now_ms = clock_real_ms();

        if (since_ms > 0)
                append_ago(t, now_ms > since_ms ? now_ms - since_ms : 0);
}

const char *times_date(uint64_t ms, char ret[static 32]) {
        time_t end = (time_t) (ms / 1000);
        struct tm tm;

        if (ms == 0 || !localtime_r(&end, &tm) || strftime(ret, 32, "%F %T", &tm) == 0)
                ret[0] = 0;
        return ret;
}
