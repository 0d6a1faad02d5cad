#include "units/options_internal.h"

int options_warn(Reading *r, const char *format, ...) {
        Warnings *warnings = r->warnings;
        _cleanup_text_ Text t = {};
        va_list ap;

        if (!warnings)
                return 0;
        if (warnings->n >= WARNINGS_MAX) {
                if (warnings->n_left_out++ == 0)
                        warnings->left_out_line = r->option->line;
                return 0;
        }

        va_start(ap, format);
        text_vprintf(&t, format, ap);
        va_end(ap);
        return t.error < 0 ? t.error : warnings_add(warnings, r->option->line, t.chars);
}

int options_refuse(Reading *r, const char *item, const char *why) {
        return error_set(r->err, -EINVAL, "%s=%.128s: %s", r->option->name, item, why);
}

int options_read_span(const char *item, uint64_t *ret) {
        uint64_t ms;

        if (parse_span_ms(item, &ms) < 0 || ms > SPAN_MAX_MS)
                return -EINVAL;
        *ret = ms;
        return 0;
}

int options_read_stored_span(const Reading *r, const char *item, uint64_t *ret) {
        if (parse_span_ms(item, ret) < 0)
                return -EINVAL;
        if (*ret > SPAN_MAX_MS && (!r->name || r->warnings))
                return -EINVAL;
        *ret = MIN(*ret, (uint64_t) SPAN_MAX_MS);
        return 0;
}
