#include "units/journal_filter.h"

#include "base/text.h"

enum { FIELD_MAX = 64 };

static bool is_one_line(const char *s) {
        if (!text_is_plain(s, strlen(s)))
                return false;
        for (; *s; s++)
                if ((unsigned char) *s < ' ' || *s == 0x7f)
                        return false;
        return true;
}

int journal_match_check(const char *match, Error *err) {
        size_t n = strspn(match, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

        if (n == 0 || n > FIELD_MAX || match[n] != '=' || (*match >= '0' && *match <= '9') ||
            !is_one_line(match))
                return error_set(err, -EINVAL,
                                 "expected FIELD=VALUE with a field of the journal in capital letters, for "
                                 "example UNIT=web.service or _PID=1");
        return 0;
}

int journal_grep_check(const char *pattern, Error *err) {
        if (!*pattern || !is_one_line(pattern))
                return error_set(err, -EINVAL, "expected a regular expression of one line");
        return 0;
}

static bool is_priority(const char *s, size_t size) {
        static const char *const names[] = { "emerg",   "alert",  "crit", "err",
                                             "warning", "notice", "info", "debug" };

        if (size == 1 && *s >= '0' && *s <= '7')
                return true;
        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (strlen(names[i]) == size && memcmp(names[i], s, size) == 0)
                        return true;
        return false;
}

int journal_priority_check(const char *priority, Error *err) {
        const char *dots = strstr(priority, ".."), *last = dots ? dots + 2 : priority;

        if (!is_priority(last, strlen(last)) || (dots && !is_priority(priority, (size_t) (dots - priority))))
                return error_set(err, -EINVAL,
                                 "expected emerg, alert, crit, err, warning, notice, info, debug, a number "
                                 "from 0 to 7, or a range of them (err..warning)");
        return 0;
}
