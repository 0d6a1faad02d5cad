#include "units/update.h"

#include <arpa/inet.h>

#include "units/name.h"

const char *const unit_check_kind_names[_UNIT_CHECK_KIND_MAX] = {
        [UNIT_CHECK_HTTP] = "http",
        [UNIT_CHECK_TCP] = "tcp",
        [UNIT_CHECK_EXEC] = "exec",
};

int share_parse(const char *s, Share *ret) {
        size_t size = strlen(s);
        bool percent = size > 0 && s[size - 1] == '%';
        char digits[16];
        uint64_t n;

        if (size >= sizeof(digits))
                return -EINVAL;
        memcpy(digits, s, size + 1);
        if (percent)
                digits[size - 1] = 0;
        if (parse_u64(digits, &n) < 0 || n > (percent ? 100 : SHARE_MAX))
                return -EINVAL;
        *ret = (Share) { .unit = percent ? SHARE_PERCENT : SHARE_NUMBER, .value = (unsigned) n };
        return 0;
}

const char *const update_failure_action_names[_UPDATE_FAILURE_ACTION_MAX] = {
        [UPDATE_PAUSES] = "pause",
        [UPDATE_REVERTS] = "revert",
        [UPDATE_CONTINUES] = "continue",
};

int update_request_read(const char *canary, const char *on_failure, UpdateRequest *ret, Error *err) {
        Share share;

        *ret = (UpdateRequest) {};
        if (canary && (strlen(canary) >= sizeof(ret->canary) || share_parse(canary, &share) < 0))
                return error_set(err, -EINVAL,
                                 "canary: expected a number or a percentage, for example 1 or 10%%");
        if (on_failure && update_failure_action_from_string(on_failure) < 0)
                return error_set(err, -EINVAL, "on-failure: expected pause, revert or continue");
        snprintf(ret->canary, sizeof(ret->canary), "%s", canary ?: "");
        snprintf(ret->on_failure, sizeof(ret->on_failure), "%s", on_failure ?: "");
        return 0;
}

bool update_request_is_empty(const UpdateRequest *request) {
        return !request->canary[0] && !request->on_failure[0];
}

UpdatePolicy update_policy_for(const UpdatePolicy *policy, const UpdateRequest *request) {
        UpdateFailureAction action = update_failure_action_from_string(request->on_failure);
        UpdatePolicy next = *policy;

        (void) share_parse(request->canary, &next.canary);
        if (action >= 0)
                next.on_failure = action;
        return next;
}

unsigned share_of(Share share, unsigned total, bool up, unsigned none) {
        uint64_t hundredths = (uint64_t) share.value * total;

        if (share.unit == SHARE_DEFAULT)
                return none;
        if (share.unit == SHARE_NUMBER)
                return share.value;
        return (unsigned) ((hundredths + (up ? 99 : 0)) / 100);
}

bool share_is_zero(Share share) {
        return share.unit != SHARE_DEFAULT && share.value == 0;
}

void update_policy_done(UpdatePolicy *policy) {
        free(policy->by);
        *policy = (UpdatePolicy) {};
}

unsigned update_max_unavailable(const UpdatePolicy *policy, unsigned total) {
        if (share_is_zero(policy->max_unavailable))
                return 0;
        return MAX(share_of(policy->max_unavailable, total, false, 1), 1U);
}

unsigned update_min_available(const UpdatePolicy *policy, unsigned total) {
        return share_of(policy->min_available, total, true, 0);
}

unsigned update_max_surge(const UpdatePolicy *policy, unsigned total) {
        return share_of(policy->max_surge, total, true, 0);
}

unsigned update_canaries(const UpdatePolicy *policy, unsigned total) {
        return share_of(policy->canary, total, true, 0);
}

unsigned update_max_failures(const UpdatePolicy *policy, unsigned total) {
        return share_of(policy->max_failures, total, false, 0);
}

uint64_t update_watch_ms(const UpdatePolicy *policy) {
        return policy->watch_ms ?: UPDATE_WATCH_MS;
}

/* Return TimeoutStartSec= of a service in ms, or its default. An infinite one, and one in a format that only
 * systemd reads, counts as 0: UpdateDeadlineSec= is then the only bound. */
static uint64_t update_start_timeout_ms(const UnitFile *file) {
        uint64_t timeout_ms = UPDATE_START_TIMEOUT_MS, ms;
        bool given = false, oneshot = false, service = false;

        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];

                if (!streq(o->section, "Service"))
                        continue;
                service = true;
                if (streq(o->name, "Type"))
                        oneshot = streq(o->value, "oneshot");
                if (!streq(o->name, "TimeoutStartSec") && !streq(o->name, "TimeoutSec"))
                        continue;
                given = *o->value;
                timeout_ms = UPDATE_START_TIMEOUT_MS;
                if (given)
                        timeout_ms = parse_span_ms(o->value, &ms) < 0 || ms > SPAN_MAX_MS ? 0 : ms;
        }
        return service && (given || !oneshot) ? timeout_ms : 0;
}

/* Return the longest time in ms from the withdrawal of an instance until the next one is available. The
 * default of WithdrawSec= does not count, nor does the stop. */
static uint64_t update_step_ms(const UpdatePolicy *policy, const HealthPolicy *health,
                               const ServicePolicy *service, const UnitFile *file) {
        return service->withdraw_ms + update_start_timeout_ms(file) + health->start_ms +
               update_watch_ms(policy);
}

uint64_t update_deadline_ms(const UpdatePolicy *policy, const HealthPolicy *health,
                            const ServicePolicy *service, const UnitFile *file) {
        return policy->deadline_ms ?:
                       MAX((uint64_t) UPDATE_DEADLINE_MS, 2 * update_step_ms(policy, health, service, file));
}

static void unit_check_done(UnitCheck *check) {
        free(check->address);
        free(check->target);
}

void health_policy_done(HealthPolicy *policy) {
        for (size_t i = 0; i < policy->n_checks; i++)
                unit_check_done(&policy->checks[i]);
        free(policy->checks);
        *policy = (HealthPolicy) {};
}

static int unit_check_command(const char *command) {
        _cleanup_names_ Names arguments = {};

        TRY(names_split(command, &arguments));
        return arguments.items[0][0] == '/' ? 0 : -EINVAL;
}

/* Return whether the port is a name, and not a number. */
static bool health_is_port_name(const char *s) {
        return service_label_is_valid(s, PORT_NAME_MAX) && s[strspn(s, "0123456789")];
}

/* Read "[ADDR:]PORT". */
static int health_read_endpoint(const char *s, UnitCheck *ret) {
        const char *colon = strrchr(s, ':'), *name = colon ? colon + 1 : s;
        char address[INET6_ADDRSTRLEN], numbered[INET6_ADDRSTRLEN + 8];
        uint16_t port = 0;
        uint64_t n;

        if (parse_u64(s, &n) >= 0) {
                ret->port = (unsigned) n;
                return n > 0 && n <= UINT16_MAX ? 0 : -EINVAL;
        }
        if (health_is_port_name(name)) {
                snprintf(ret->port_name, sizeof(ret->port_name), "%s", name);
                if (!colon)
                        return 0;
                if (name - s >= INET6_ADDRSTRLEN + 3)
                        return -EINVAL;
                snprintf(numbered, sizeof(numbered), "%.*s1", (int) (name - s), s);
                s = numbered;
        }
        if (parse_address(s, address, sizeof(address), &port) < 0 || !text_is_ip_address(address) ||
            (s[0] == '[') != (strchr(address, ':') != NULL))
                return -EINVAL;
        ret->port = ret->port_name[0] ? 0 : port;
        ret->address = strdup(address);
        return ret->address ? 0 : -ENOMEM;
}

/* The path is sent as it is: control characters and spaces would end the line of the request. */
static bool health_is_path(const char *s) {
        if (*s != '/')
                return false;
        for (; *s; s++)
                if ((unsigned char) *s <= ' ' || *s == 0x7f)
                        return false;
        return true;
}

static int unit_check_read(UnitCheckKind kind, const char *s, UnitCheck *ret) {
        size_t size = kind == UNIT_CHECK_TCP ? strlen(s) : strcspn(s, "/");
        _cleanup_free_ char *endpoint = NULL;
        int r;

        ret->kind = kind;
        if (kind == UNIT_CHECK_EXEC) {
                TRY(unit_check_command(s));
                return copy_string(s, &ret->target);
        }

        endpoint = strndup(s, size);
        if (!endpoint)
                return -ENOMEM;
        r = health_read_endpoint(endpoint, ret);
        if (r < 0 || kind == UNIT_CHECK_TCP)
                return r;
        return health_is_path(s + size) ? copy_string(s + size, &ret->target) : -EINVAL;
}

int health_policy_add(HealthPolicy *policy, UnitCheckKind kind, const char *s) {
        UnitCheck check = {};
        int r;

        if (policy->n_checks >= HEALTH_CHECKS_MAX)
                return -E2BIG;
        if (!policy->checks)
                policy->checks = NEW0(UnitCheck, HEALTH_CHECKS_MAX);
        if (!policy->checks)
                return -ENOMEM;
        r = unit_check_read(kind, s, &check);
        if (r < 0) {
                unit_check_done(&check);
                return r;
        }
        policy->checks[policy->n_checks++] = check;
        return 0;
}

void health_policy_set_port(HealthPolicy *policy, const char *name, unsigned number) {
        for (size_t i = 0; i < policy->n_checks; i++)
                if (streq(policy->checks[i].port_name, name))
                        policy->checks[i].port = number;
}

void unit_check_describe(const UnitCheck *check, Text *t) {
        const char *address = check->address ?: "127.0.0.1";
        char digits[16];

        snprintf(digits, sizeof(digits), "%u", check->port);
        if (check->kind != UNIT_CHECK_EXEC)
                text_printf(t, strchr(address, ':') ? "[%s]:%s" : "%s:%s", address,
                            check->port > 0 ? digits : check->port_name);
        if (check->target)
                text_append(t, check->target);
}

uint64_t health_interval_ms(const HealthPolicy *policy) {
        return policy->interval_ms ?: HEALTH_INTERVAL_MS;
}

uint64_t health_timeout_ms(const HealthPolicy *policy) {
        return MIN(policy->timeout_ms ?: (uint64_t) HEALTH_TIMEOUT_MS, health_interval_ms(policy));
}

unsigned health_failures(const HealthPolicy *policy) {
        return policy->failures ?: HEALTH_FAILURES;
}

unsigned health_successes(const HealthPolicy *policy) {
        return policy->successes ?: HEALTH_SUCCESSES;
}

void span_describe(uint64_t ms, Text *t) {
        if (ms % 1000 > 0)
                text_printf(t, "%llums", (unsigned long long) ms);
        else if (ms > 120000 && ms % 60000 == 0)
                text_printf(t, "%llumin", (unsigned long long) ms / 60000);
        else
                text_printf(t, "%llus", (unsigned long long) ms / 1000);
}

static int health_check_spans(const HealthPolicy *h, Error *err) {
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < h->n_checks; i++)
                if (h->checks[i].kind == UNIT_CHECK_EXEC && h->interval_ms > 0 &&
                    h->interval_ms < HEALTH_INTERVAL_EXEC_MIN_MS) {
                        text_append(&t, "HealthIntervalSec=");
                        span_describe(h->interval_ms, &t);
                        return error_set(err, -EINVAL,
                                         "%s: expected at least %ds with HealthExec=", t.chars ?: "",
                                         HEALTH_INTERVAL_EXEC_MIN_MS / 1000);
                }
        if (h->timeout_ms <= health_interval_ms(h))
                return 0;
        text_append(&t, "HealthTimeoutSec=");
        span_describe(h->timeout_ms, &t);
        text_append(&t, " exceeds HealthIntervalSec=");
        span_describe(health_interval_ms(h), &t);
        return t.error < 0 ? t.error : error_set(err, -EINVAL, "%s", t.chars);
}

static int update_check_deadline(const UpdatePolicy *policy, const HealthPolicy *health,
                                 const ServicePolicy *service, const UnitFile *file, Error *err) {
        uint64_t step_ms = update_step_ms(policy, health, service, file);
        _cleanup_text_ Text t = {};

        if (policy->deadline_ms == 0 || policy->deadline_ms >= step_ms)
                return 0;
        text_append(&t, "UpdateDeadlineSec=");
        span_describe(policy->deadline_ms, &t);
        text_append(&t, " is shorter than TimeoutStartSec=, HealthStartSec=, UpdateWatchSec= and "
                        "WithdrawSec= together (");
        span_describe(step_ms, &t);
        return t.error < 0 ? t.error : error_set(err, -EINVAL, "%s)", t.chars);
}

static void share_describe(Share share, char ret[static 16]) {
        snprintf(ret, 16, "%u%s", share.value, share.unit == SHARE_PERCENT ? "%" : "");
}

int update_warn(const UpdatePolicy *policy, const char *name, unsigned n, bool stops_first, Warnings *ret) {
        char message[UNIT_NAME_MAX + 160], share[16];
        int r = 0;

        if (n > 0 && update_min_available(policy, n) >= n && (stops_first || policy->max_surge.value == 0)) {
                share_describe(policy->min_available, share);
                snprintf(message, sizeof(message),
                         "MinAvailable=%s: %s has %u instance%s; none can be stopped first", share, name, n,
                         n == 1 ? "" : "s");
                r = warnings_add(ret, 0, message);
        }
        if (r >= 0 && n > 0 && update_canaries(policy, n) >= n) {
                snprintf(message, sizeof(message),
                         "Canary=%u of %u instance%s of %s: the rollout is held when all have the new text",
                         update_canaries(policy, n), n, n == 1 ? "" : "s", name);
                r = warnings_add(ret, 0, message);
        }
        return r;
}

unsigned update_parallel(const UpdatePolicy *policy, unsigned n) {
        unsigned surge = update_max_surge(policy, n);

        return MAX(surge > 0 ? surge : update_max_unavailable(policy, n), 1u);
}

uint64_t update_least_ms(const UpdatePolicy *policy, unsigned n) {
        unsigned parallel = update_parallel(policy, n), steps = (n + parallel - 1) / parallel;
        uint64_t pauses_ms;

        if (steps == 0)
                return 0;
        pauses_ms = (steps - 1) * policy->pause_ms;
        return steps * update_watch_ms(policy) + pauses_ms;
}

int update_check(const UpdatePolicy *policy, const HealthPolicy *health, const ServicePolicy *service,
                 const UnitFile *file, Error *err) {
        if (share_is_zero(policy->max_unavailable) && policy->max_surge.value == 0)
                return error_set(err, -EINVAL, "MaxUnavailable=0 requires MaxSurge= of at least 1");
        TRY(health_check_spans(health, err));
        return update_check_deadline(policy, health, service, file, err);
}
