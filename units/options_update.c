/* The options of updates and health. A value of a stored unit that is invalid counts as the default: an older
 * version took these options for unknown ones and stored any value, and a later version may accept more. What
 * users submit is also read without a name, or with warnings, and is rejected. */

#include "units/name.h"
#include "units/options_internal.h"

static bool options_has_specifier(const char *item) {
        for (const char *p = item; (p = strchr(p, '%')); p++)
                if (p[1] && strchr("nNpi", p[1]))
                        return true;
        return false;
}

static int options_refuse_new(Reading *r, const char *item, const char *why) {
        if (r->name && (!r->warnings || unit_name_is_template(r->name)))
                return 0;
        if (!r->name && options_has_specifier(item))
                return 0; /* unit_check() reads it with the name */
        return options_refuse(r, item, why);
}

int take_share(Reading *r, const char *item, void *field) {
        Share *ret = field;
        size_t digits = strspn(item, "0123456789");
        bool large = digits > 0 && streq(item + digits, "%");

        *ret = (Share) {};
        if (!*item || share_parse(item, ret) >= 0)
                return 0;
        return options_refuse_new(r, item,
                                  large ? "expected at most 100%" :
                                          "expected a number or a percentage, for example 2 or 25%");
}

static int options_take_span(Reading *r, const char *item, uint64_t zero_ms, uint64_t *ret) {
        uint64_t ms = 0;

        *ret = 0;
        if (!*item)
                return 0;
        if (options_read_span(item, &ms) < 0)
                return options_refuse_new(r, item, "expected a time span, for example 30s");
        *ret = ms ?: zero_ms;
        return 0;
}

int take_span(Reading *r, const char *item, void *field) {
        return options_take_span(r, item, 0, field);
}

int take_span_above_0(Reading *r, const char *item, void *field) {
        return options_take_span(r, item, 1, field);
}

int take_promote(Reading *r, const char *item, void *field) {
        uint64_t ms = 0;

        r->placement->update.promote_ms = 0;
        if (!*item || streq(item, "manual"))
                return 0;
        if (options_read_span(item, &ms) < 0)
                return options_refuse_new(r, item, "expected manual or a time span");
        r->placement->update.promote_ms = ms ?: 1;
        return 0;
}

int take_update_by(Reading *r, const char *item, void *field) {
        UpdatePolicy *update = &r->placement->update;

        free(update->by);
        update->by = NULL;
        if (!*item)
                return 0;
        if (item[strcspn(item, " \t=\"")])
                return options_refuse_new(r, item, "expected one metadata key");
        return copy_string(item, &update->by);
}

static int options_take_word(Reading *r, const char *item, const char *const words[], int n,
                             const char *expected, int *ret) {
        *ret = 0;
        if (!*item)
                return 0;
        *ret = parse_name(item, words, n);
        if (*ret >= 0)
                return 0;
        *ret = 0;
        return options_refuse_new(r, item, expected);
}

int take_on_failure(Reading *r, const char *item, void *field) {
        int word, k;

        k = options_take_word(r, item, update_failure_action_names, _UPDATE_FAILURE_ACTION_MAX,
                              "expected pause, revert or continue", &word);
        r->placement->update.on_failure = (UpdateFailureAction) word;
        return k;
}

static int options_take_check(Reading *r, UnitCheckKind kind, const char *item, const char *expected) {
        int k;

        if (!*item)
                return 0;
        k = health_policy_add(&r->placement->health, kind, item);
        if (k == -E2BIG)
                return error_set(r->err, -EINVAL, "%s=: a unit has at most %d checks", r->option->name,
                                 HEALTH_CHECKS_MAX);
        return k == -EINVAL ? options_refuse_new(r, item, expected) : k;
}

int take_health_http(Reading *r, const char *item, void *field) {
        return options_take_check(r, UNIT_CHECK_HTTP, item,
                                  "expected [ADDR:]PORT/PATH with an address of the unit's own host, for "
                                  "example 8080/ready");
}

int take_health_tcp(Reading *r, const char *item, void *field) {
        return options_take_check(
                r, UNIT_CHECK_TCP, item,
                "expected [ADDR:]PORT with an address of the unit's own host, for example 8080");
}

int take_health_exec(Reading *r, const char *item, void *field) {
        return options_take_check(r, UNIT_CHECK_EXEC, item,
                                  *item == '/' ? "expected a closing quote" : "expected an absolute path");
}

int take_health_interval(Reading *r, const char *item, void *field) {
        uint64_t *ret = &r->placement->health.interval_ms, ms = 0;
        const char *expected = "expected a time span, for example 10s";

        *ret = 0;
        if (!*item)
                return 0;
        if (options_read_span(item, &ms) >= 0) {
                if (ms >= HEALTH_INTERVAL_MIN_MS && ms <= HEALTH_INTERVAL_MAX_MS) {
                        *ret = ms;
                        return 0;
                }
                expected = ms < HEALTH_INTERVAL_MIN_MS ? "expected at least 1s" : "expected at most 1h";
        }
        return options_refuse_new(r, item, expected);
}

int take_health_timeout(Reading *r, const char *item, void *field) {
        uint64_t ms = 0;

        r->placement->health.timeout_ms = 0;
        if (!*item)
                return 0;
        if (options_read_span(item, &ms) < 0 || ms == 0)
                return options_refuse_new(r, item, "expected a time span above 0, for example 2s");
        r->placement->health.timeout_ms = ms;
        return 0;
}

int take_results(Reading *r, const char *item, void *field) {
        char expected[32];
        unsigned *ret = field;
        uint64_t n = 0;

        snprintf(expected, sizeof(expected), "expected 1 to %d", HEALTH_RESULTS_MAX);
        *ret = 0;
        if (!*item)
                return 0;
        if (parse_u64(item, &n) < 0 || n < 1 || n > HEALTH_RESULTS_MAX)
                return options_refuse_new(r, item, expected);
        *ret = (unsigned) n;
        return 0;
}

int take_health_action(Reading *r, const char *item, void *field) {
        static const char *const words[] = {
                [HEALTH_ACTION_NONE] = "none", [HEALTH_ACTION_RESTART] = "restart"
        };
        int word, k;

        k = options_take_word(r, item, words, ELEMENTS(words), "expected none or restart", &word);
        r->placement->health.action = (HealthAction) word;
        return k;
}

int take_trigger(Reading *r, const char *item, void *field) {
        return 0;
}
