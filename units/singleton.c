#include "units/singleton.h"

#include "base/parse.h"

enum {
        DRIFT_PERCENT = 2, /* between the clocks of two hosts */
        RESERVE_MS = 1000, /* timers of systemd, and the end of a process after SIGKILL */
};

uint64_t singleton_lease_ms(uint64_t setting_ms) {
        if (setting_ms == 0)
                return SINGLETON_LEASE_MS;
        return MIN(MAX(setting_ms, (uint64_t) SINGLETON_LEASE_MIN_MS), (uint64_t) SINGLETON_LEASE_MAX_MS);
}

/* Return -EINVAL also for systemd's "infinity" and 0, which means the same. */
static int singleton_read_timeout(const char *value, uint64_t *ret) {
        int r = parse_span_ms(value, ret);

        return r < 0 || *ret == 0 ? -EINVAL : 0;
}

uint64_t singleton_stop_ms(const UnitFile *file, uint64_t *ret_timeout_ms) {
        uint64_t timeout_ms = 0, n = 1;

        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];

                if (!streq(o->section, "Service") || !*o->value)
                        continue;
                if ((streq(o->name, "TimeoutStopSec") || streq(o->name, "TimeoutSec")) &&
                    singleton_read_timeout(o->value, &timeout_ms) < 0)
                        timeout_ms = SINGLETON_STOP_MAX_MS;
                n += streq(o->name, "ExecStop") || streq(o->name, "ExecStopPost");
        }
        if (ret_timeout_ms)
                *ret_timeout_ms = timeout_ms;
        timeout_ms = timeout_ms ?: SINGLETON_STOP_MS;
        return n > SINGLETON_STOP_MAX_MS / timeout_ms ? SINGLETON_STOP_MAX_MS : n * timeout_ms;
}

uint64_t singleton_hold_ms(const UnitFile *file, uint64_t lease_ms) {
        uint64_t most_ms = lease_ms + SINGLETON_WATCHDOG_MS + singleton_stop_ms(file, NULL);

        return most_ms + most_ms * DRIFT_PERCENT / 100 + RESERVE_MS;
}

/* Return whether systemd, with this value of the option, ends all processes of the service within its
 * timeouts. */
static bool singleton_allows(const char *name, const char *value) {
        static const struct {
                const char *name, *values[4];
        } rules[] = {
                { "KillMode", { "", "control-group", "mixed" } },
                { "SendSIGKILL", { "", "yes", "true", "1" } },
                { "FinalKillSignal", { "", "SIGKILL", "KILL", "9" } },
                { "TimeoutStopFailureMode", { "", "terminate", "kill" } },
                { "TimeoutAbortSec", { "" } },
        };

        for (size_t i = 0; i < ELEMENTS(rules); i++) {
                bool allowed = false;

                for (size_t k = 0; k < ELEMENTS(rules[i].values) && rules[i].values[k]; k++)
                        allowed |= streq(rules[i].values[k], value);
                if (streq(rules[i].name, name))
                        return allowed;
        }
        return true;
}

static int singleton_check_option(const UnitOption *o, Error *err) {
        uint64_t ms;

        if ((streq(o->name, "TimeoutStopSec") || streq(o->name, "TimeoutSec")) && *o->value &&
            (singleton_read_timeout(o->value, &ms) < 0 || ms > SINGLETON_STOP_MAX_MS))
                return error_set(err, -EINVAL,
                                 "line %u: %s=%.64s cannot be used with Singleton=yes: expected a number of "
                                 "seconds up to %d, for example %s=20s, because the unit runs nowhere else "
                                 "before that time",
                                 o->line, o->name, o->value, SINGLETON_STOP_MAX_MS / 1000, o->name);
        if (!singleton_allows(o->name, o->value))
                return error_set(err, -EINVAL,
                                 "line %u: %s=%.64s cannot be used with Singleton=yes: processes of the unit "
                                 "might outlive its stop; remove the option",
                                 o->line, o->name, o->value);
        return 0;
}

int singleton_check(const char *name, const UnitFile *file, Error *err) {
        uint64_t stop_ms;

        if (!streq(unit_name_type(name), "service"))
                return error_set(err, -EINVAL, "Singleton=yes can be used in services only");
        if (strlen(name) > SINGLETON_NAME_MAX)
                return error_set(err, -EINVAL,
                                 "the name of a unit with Singleton=yes has at most %d bytes, this one %zu",
                                 SINGLETON_NAME_MAX, strlen(name));
        for (size_t i = 0; i < file->n_options; i++) {
                if (!streq(file->options[i].section, "Service"))
                        continue;
                TRY(singleton_check_option(&file->options[i], err));
        }
        stop_ms = singleton_stop_ms(file, NULL);
        if (stop_ms >= SINGLETON_STOP_MAX_MS)
                return error_set(
                        err, -EINVAL,
                        "with Singleton=yes, all commands of ExecStop= and ExecStopPost= together "
                        "must end within %d s, each within TimeoutStopSec=: use fewer commands, or a "
                        "shorter TimeoutStopSec=",
                        SINGLETON_STOP_MAX_MS / 1000);
        return 0;
}
