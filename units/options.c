#include "units/options.h"

#include <strings.h>

#include "units/effect.h"
#include "units/machine.h"
#include "units/name.h"
#include "units/options_internal.h"
#include "units/revision.h"

static int take_machine_id(Reading *r, const char *item, void *field) {
        size_t size = strlen(item);

        if (r->placement->machine_id || size == 0)
                return 0;
        r->placement->machine_id = strdup(item);
        if (!r->placement->machine_id)
                return -ENOMEM;

        if (parse_hex_id(item, MACHINE_ID_SIZE - 1) < 0 && parse_hex_id(item, MACHINE_ID_SHORT) < 0 &&
            !strchr(item, '%'))
                return options_warn(
                        r, "%s=%.64s: no machine has this id: give all 32 hex digits, or the first 8",
                        r->option->name, item);
        return 0;
}

static int take_name(Reading *r, Names *names, const char *item, size_t size) {
        if (size == 0)
                return 0;
        if (names->n >= OPTION_ITEMS_MAX)
                return error_set(r->err, -EINVAL, "%s=: more than %d names", r->option->name,
                                 OPTION_ITEMS_MAX);
        return names_add(names, item, size);
}

static int take_unit(Reading *r, const char *item, void *field) {
        return take_name(r, field, item, strlen(item));
}

/* Only in this option, white space separates items without quotes. */
static int take_conflicts(Reading *r, const char *item, void *field) {
        static const char blanks[] = " \t\n\v\f\r";

        while (*(item += strspn(item, blanks))) {
                size_t size = strcspn(item, blanks);

                TRY(take_name(r, &r->placement->conflicts, item, size));
                item += size;
        }
        return 0;
}

/* An error: fleet ignored an invalid pair, and the unit then ran on any machine. */
static int options_refuse_pair(Reading *r, const char *item, const char *equals) {
        char example[160] = "expected key=value, for example gpu=true";

        if (!equals && item[strcspn(item, " \"\\")] == 0 && strlen(item) < 64)
                snprintf(example, sizeof(example), "expected key=value, for example %s=true", item);
        else if (equals && strchr(item, ' '))
                snprintf(example, sizeof(example),
                         "expected one key=value; several need quotes: \"zone=a\" \"ssd=true\"");
        else if (equals && strchr(equals + 1, '='))
                snprintf(example, sizeof(example), "expected key=value with one '='");
        return options_refuse(r, item, example);
}

static int take_metadata(Reading *r, const char *item, void *field) {
        const char *equals = strchr(item, '=');
        _cleanup_free_ char *key = NULL;

        if (*item == 0)
                return 0;
        if (!equals || equals == item || equals[1] == 0 || strchr(equals + 1, '=')) {
                /* In a template %i is empty; a template is not scheduled. */
                if (r->name && unit_name_is_template(r->name))
                        return 0;
                return options_refuse_pair(r, item, equals);
        }
        if (r->placement->metadata.n >= OPTION_ITEMS_MAX)
                return error_set(r->err, -EINVAL, "%s=: more than %d pairs", r->option->name,
                                 OPTION_ITEMS_MAX);

        key = strndup(item, equals - item);
        if (!key)
                return -ENOMEM;
        return pairs_add(&r->placement->metadata, key, equals + 1);
}

/* An error, unlike in Global=: a unit that is to run at most once must not run as any other one. */
static int take_singleton(Reading *r, const char *item, void *field) {
        r->placement->singleton = false;
        if (*item && parse_bool(item, &r->placement->singleton) < 0)
                return options_refuse(r, item, "expected yes or no");
        return 0;
}

static int take_keep_revisions(Reading *r, const char *item, void *field) {
        char expected[32];
        uint64_t n = 0;

        snprintf(expected, sizeof(expected), "expected %d to %d", REVISIONS_KEPT_MIN, REVISIONS_KEPT_MAX);
        if (*item && (parse_u64(item, &n) < 0 || n < REVISIONS_KEPT_MIN || n > REVISIONS_KEPT_MAX))
                return options_refuse(r, item, expected);
        r->placement->keep_revisions = (unsigned) n;
        return 0;
}

static int take_move(Reading *r, const char *item, void *field) {
        static const char *const words[] = { [PLACEMENT_MOVE_DEFAULT] = "",
                                             [PLACEMENT_START_FIRST] = "start-first",
                                             [PLACEMENT_STOP_FIRST] = "stop-first",
                                             [PLACEMENT_STAYS] = "no" };

        for (size_t i = 0; i < ELEMENTS(words); i++)
                if (streq(item, words[i])) {
                        r->placement->move = (PlacementMove) i;
                        return 0;
                }
        /* A stored unit that a later version has accepted; what users submit is also read without a name. */
        if (r->name && !r->warnings) {
                r->placement->move = PLACEMENT_MOVE_UNKNOWN;
                return 0;
        }
        return options_refuse(r, item, "expected start-first, stop-first or no");
}

static int take_target_state(Reading *r, const char *item, void *field) {
        TargetState target = *item ? target_state_from_string(item) : TARGET_INACTIVE;

        r->placement->target = MAX(target, TARGET_INACTIVE);
        /* A stored unit may have a value of a later version, as in take_move(). */
        if (*item && target <= TARGET_INACTIVE && !(r->name && !r->warnings))
                return options_refuse(r, item, "expected loaded or launched");
        return 0;
}

static int take_replace_after(Reading *r, const char *item, void *field) {
        uint64_t ms = 0;

        if (streq(item, "never"))
                ms = REPLACE_NEVER;
        else if (*item && options_read_stored_span(r, item, &ms) < 0)
                return options_refuse(r, item, "expected never or a time span, for example 30s");
        r->placement->replace_after_ms = ms;
        return 0;
}

static int take_on_partition(Reading *r, const char *item, void *field) {
        if (*item && !streq(item, "keep") && !streq(item, "stop"))
                return options_refuse(r, item, "expected keep or stop");
        r->placement->stops_alone = streq(item, "stop");
        return 0;
}

static int take_on_reconnect(Reading *r, const char *item, void *field) {
        if (*item && !streq(item, "keep-new") && !streq(item, "keep-old"))
                return options_refuse(r, item, "expected keep-new or keep-old");
        r->placement->keeps_old = streq(item, "keep-old");
        return 0;
}

static int take_stop_after(Reading *r, const char *item, void *field) {
        uint64_t ms = 0;

        if (*item && (options_read_stored_span(r, item, &ms) < 0 || ms < STOP_AFTER_MIN_MS))
                return options_refuse(r, item, "expected a time span of at least 10s, for example 1min");
        r->placement->stop_after_ms = ms;
        return 0;
}

static int take_global(Reading *r, const char *item, void *field) {
        static const char *const yes[] = { "true", "yes", "1", "on", "t" };
        bool plain;

        r->placement->global = false;
        for (size_t i = 0; i < ELEMENTS(yes); i++)
                if (strcasecmp(item, yes[i]) == 0)
                        r->placement->global = true;

        if (!r->placement->global && *item && parse_bool(item, &plain) < 0)
                return options_warn(r, "%s=%.64s is taken as false; expected true or false", r->option->name,
                                    item);
        return 0;
}

/* The [X-Fleet] options, one per line. fleet.unit(5) documents the same names. Values of an option with
 * several spellings are taken in the order of this table. */
static const struct {
        const char *name;
        OptionTake take;
        size_t field; /* a member of Placement, if 'take' sets one of several */
        bool old;     /* an old spelling: accepted, not suggested */
        bool updates; /* begins with the level of updates */
} fleet_options[] = {
        { "MachineID", take_machine_id },
        { "X-ConditionMachineID", take_machine_id, .old = true },
        { "X-ConditionMachineBootID", take_machine_id, .old = true },
        { "X-ConditionMachineOf", take_unit, offsetof(Placement, machine_of), .old = true },
        { "MachineOf", take_unit, offsetof(Placement, machine_of) },
        { "X-ConditionMachineMetadata", take_metadata, .old = true },
        { "MachineMetadata", take_metadata },
        { "X-Conflicts", take_conflicts, .old = true },
        { "Conflicts", take_conflicts },
        { "Replaces", take_unit, offsetof(Placement, replaces) },
        { "Global", take_global },
        { "Singleton", take_singleton },
        { "KeepRevisions", take_keep_revisions },
        { "Move", take_move },
        { "TargetState", take_target_state },
        { "ReplaceAfterSec", take_replace_after },
        { "OnPartition", take_on_partition },
        { "StopAfterSec", take_stop_after },
        { "OnReconnect", take_on_reconnect, .updates = true },
        { "MaxUnavailable", take_share, offsetof(Placement, update.max_unavailable), .updates = true },
        { "MinAvailable", take_share, offsetof(Placement, update.min_available), .updates = true },
        { "MaxSurge", take_share, offsetof(Placement, update.max_surge), .updates = true },
        { "Canary", take_share, offsetof(Placement, update.canary), .updates = true },
        { "UpdateMaxFailures", take_share, offsetof(Placement, update.max_failures), .updates = true },
        { "UpdateWatchSec", take_span_above_0, offsetof(Placement, update.watch_ms), .updates = true },
        { "UpdatePauseSec", take_span, offsetof(Placement, update.pause_ms), .updates = true },
        { "UpdateDeadlineSec", take_span_above_0, offsetof(Placement, update.deadline_ms), .updates = true },
        { "Promote", take_promote, .updates = true },
        { "UpdateBy", take_update_by, .updates = true },
        { "UpdateOnFailure", take_on_failure, .updates = true },
        { "HealthHttp", take_health_http, .updates = true },
        { "HealthTcp", take_health_tcp, .updates = true },
        { "HealthExec", take_health_exec, .updates = true },
        { "HealthIntervalSec", take_health_interval, .updates = true },
        { "HealthTimeoutSec", take_health_timeout, .updates = true },
        { "HealthStartSec", take_span, offsetof(Placement, health.start_ms), .updates = true },
        { "HealthFailures", take_results, offsetof(Placement, health.failures), .updates = true },
        { "HealthSuccesses", take_results, offsetof(Placement, health.successes), .updates = true },
        { "HealthAction", take_health_action, .updates = true },
        { "ReloadTrigger", take_trigger, .updates = true },
        { "RestartTrigger", take_trigger, .updates = true },
};

static int options_take_item(Reading *r, OptionTake take, void *field, const char *item) {
        _cleanup_free_ char *expanded = NULL;

        if (r->name) {
                /* Each specifier of two bytes may become a whole name: check the size first. */
                if (strlen(item) > OPTION_ITEM_MAX)
                        return options_refuse(r, item, "too long");
                /* Most items have no specifier, and a line may have thousands of empty items, which no limit
                 * covers. */
                if (strchr(item, '%')) {
                        expanded = unit_name_expand(r->name, item);
                        if (!expanded)
                                return -ENOMEM;
                        item = expanded;
                }
        }
        /* Conflicts= without quotes is one item up to here, and many names afterwards. */
        if (strlen(item) > OPTION_ITEM_MAX * (take == take_conflicts ? 64 : 1))
                return options_refuse(r, item, "too long");
        return take(r, item, field);
}

/* A value in quotes is a list: quotes are removed, and each space outside of quotes separates two items. */
static int options_take_value(Reading *r, OptionTake take, void *field) {
        const char *value = r->option->value;
        _cleanup_text_ Text item = {};
        bool quoted = false;

        if (value[0] != '"' || !ends_with(value, "\""))
                return options_take_item(r, take, field, value);

        text_append(&item, "");
        for (const char *p = value; *p; p++)
                if (*p == '"')
                        quoted = !quoted;
                else if (*p == ' ' && !quoted) {
                        if (item.error < 0)
                                return item.error;
                        TRY(options_take_item(r, take, field, item.chars));
                        text_clear(&item);
                } else
                        text_append_char(&item, *p);
        return item.error < 0 ? item.error : options_take_item(r, take, field, item.chars);
}

bool options_begin_with_updates(const char *name) {
        for (size_t i = 0; i < ELEMENTS(fleet_options); i++)
                if (streq(name, fleet_options[i].name))
                        return fleet_options[i].updates;
        return false;
}

static const char *options_nearest(const char *name) {
        const char *nearest = NULL;
        size_t best = 3;

        for (size_t i = 0; i < ELEMENTS(fleet_options); i++) {
                size_t distance = strcasecmp(name, fleet_options[i].name) == 0 ?
                                          0 :
                                          text_distance(name, fleet_options[i].name);

                if (!fleet_options[i].old && distance < best) {
                        best = distance;
                        nearest = fleet_options[i].name;
                }
        }
        return nearest;
}

/* Return why an option with a value has no effect beside the others; NULL: it has one. */
static const char *options_useless(const Placement *p, const char *name) {
        const struct {
                const char *name;
                bool useless;
                const char *why;
        } rows[] = {
                { "Move", p->global, "Move= has no effect with Global=yes: a global unit stays" },
                { "ReplaceAfterSec", p->global,
                  "ReplaceAfterSec= has no effect with Global=yes: each machine has its own instance" },
                { "StopAfterSec", !p->stops_alone, "StopAfterSec= has no effect without OnPartition=stop" },
                { "OnPartition", p->stops_alone && p->singleton,
                  "OnPartition=stop with Singleton=yes is redundant: the unit stops when its lease ends" },
                { "OnReconnect", p->keeps_old && p->global,
                  "OnReconnect=keep-old has no effect with Global=yes: each machine has its own instance" },
                { "OnReconnect", p->keeps_old && p->singleton,
                  "OnReconnect=keep-old has no effect with Singleton=yes: two instances never run" },
                { "Promote", p->update.canary.value == 0, "Promote= has no effect without Canary=" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (streq(name, rows[i].name) && rows[i].useless)
                        return rows[i].why;
        return NULL;
}

/* Warn that a unit may run twice: its replacement starts before it stops on a host that is cut off. */
static int options_warn_twice(Reading *r) {
        const Placement *p = r->placement;
        uint64_t stop_ms = placement_stop_after_ms(p), replaced_ms;
        unsigned long long stop_s;

        if (!p->stops_alone || p->singleton || p->global ||
            __builtin_add_overflow(p->replace_after_ms, (uint64_t) LOST_AFTER_MS, &replaced_ms) ||
            stop_ms <= replaced_ms)
                return 0;
        stop_s = (stop_ms + 999) / 1000;
        return options_warn(
                r,
                "two instances may run for up to %llu s: StopAfterSec= is %llu s, and another host "
                "takes over after %llu s; to prevent that: ReplaceAfterSec=%llus",
                (unsigned long long) (stop_ms - replaced_ms + 999) / 1000, stop_s,
                (unsigned long long) replaced_ms / 1000, stop_s);
}

/* Warn that a change of ReloadTrigger= cannot reload the service. */
static int options_warn_reload(Reading *r, const UnitFile *file) {
        if (effect_can_reload(file))
                return 0;
        return options_warn(r, "ReloadTrigger=: no ExecReload= and not Type=notify-reload; a change restarts "
                               "the service");
}

/* A check with a specifier is in no policy yet: the file counts. */
static bool options_have_check(const UnitFile *file) {
        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];

                if (unit_file_section_is_ours(o->section) && *o->value &&
                    (streq(o->name, "HealthHttp") || streq(o->name, "HealthTcp") ||
                     streq(o->name, "HealthExec")))
                        return true;
        }
        return false;
}

/* The sections of systemd, and those of Podman's quadlets. */
static const char *const sections[] = {
        "Artifact", "Automount", "Build", "Container", "Image",   "Install", "Kube",
        "Mount",    "Network",   "Path",  "Pod",       "Quadlet", "Scope",   "Service",
        "Slice",    "Socket",    "Swap",  "Timer",     "Unit",    "Volume",
};

static bool options_know_section(const char *section) {
        for (size_t i = 0; i < ELEMENTS(sections); i++)
                if (streq(sections[i], section))
                        return true;
        return false;
}

/* Return the section that is probably meant, or NULL. Systemd ignores all that begin with X-. */
static const char *options_nearest_section(const char *section) {
        const char *nearest = NULL;
        size_t best = 3;

        if (strcasecmp(section, "X-Fleet") == 0 || strcasecmp(section, "Fleet") == 0 ||
            strcasecmp(section, "XFleet") == 0 || text_distance(section, "X-Fleet") < best)
                return "X-Fleet";
        for (size_t i = 0; i < ELEMENTS(sections) && !starts_with(section, "X-"); i++) {
                size_t distance = text_distance(section, sections[i]);

                if (distance < best && (section[0] | 0x20) == (sections[i][0] | 0x20)) {
                        best = distance;
                        nearest = sections[i];
                }
        }
        return nearest;
}

/* Warn once about a section that is probably misspelt, at its name. */
static int options_warn_section(Reading *r, const UnitFile *file) {
        const UnitOption *o = r->option, at = { .line = o->section_line };
        const char *nearest;
        int k;

        if (!*o->section || (o > file->options && streq(o[-1].section, o->section)) ||
            options_know_section(o->section))
                return 0;
        nearest = r->warnings->n < WARNINGS_MAX ? options_nearest_section(o->section) : NULL;
        if (!nearest && starts_with(o->section, "X-"))
                return 0;
        r->option = &at;
        if (nearest)
                k = options_warn(r, "section [%.64s] is ignored; did you mean [%s]?", o->section, nearest);
        else
                k = options_warn(r, "section [%.64s] is ignored: it is none of systemd", o->section);
        r->option = o;
        return k;
}

static int options_warn_option(Reading *r, const UnitFile *file) {
        const UnitOption *o = r->option;
        const char *nearest, *useless;
        bool alone = file->n_options == 1; /* unit_verify(): nothing is known about the other options */

        useless = unit_file_section_is_ours(o->section) && *o->value && !alone ?
                          options_useless(r->placement, o->name) :
                          NULL;
        if (useless)
                return options_warn(r, "%s", useless);
        if (unit_file_section_is_ours(o->section) && *o->value && !alone && starts_with(o->name, "Health") &&
            options_begin_with_updates(o->name) && !options_have_check(file))
                return options_warn(
                        r, "%s= has no effect without HealthHttp=, HealthTcp= or HealthExec=", o->name);
        if (unit_file_section_is_ours(o->section) && streq(o->name, "OnPartition") &&
            streq(o->value, "stop") && !alone)
                return options_warn_twice(r);
        if (unit_file_section_is_ours(o->section) && streq(o->name, "ReloadTrigger") && *o->value && !alone)
                return options_warn_reload(r, file);

        if (!unit_file_section_is_ours(o->section))
                return options_warn_section(r, file);

        for (size_t i = 0; i < ELEMENTS(fleet_options); i++)
                if (streq(o->name, fleet_options[i].name))
                        return 0;
        nearest = r->warnings->n < WARNINGS_MAX ? options_nearest(o->name) : NULL;
        if (nearest)
                return options_warn(r, "[%s] has no option %.64s; did you mean %s?", o->section, o->name,
                                    nearest);
        return options_warn(r, "[%s] has no option %.64s", o->section, o->name);
}

int options_read(const UnitFile *file, const char *name, Placement *ret, Warnings *warnings, Error *err) {
        _cleanup_placement_ Placement placement = {};
        Reading reading = { .name = name, .placement = &placement, .warnings = warnings, .err = err };
        int r;

        for (size_t i = 0; i < ELEMENTS(fleet_options); i++)
                for (size_t j = 0; j < file->n_options; j++) {
                        const UnitOption *o = reading.option = &file->options[j];

                        if (!unit_file_section_is_ours(o->section) || !streq(o->name, fleet_options[i].name))
                                continue;
                        r = options_take_value(&reading, fleet_options[i].take,
                                               (char *) &placement + fleet_options[i].field);
                        if (r == -ENOMEM)
                                return r;
                        if (r < 0)
                                return o->line > 0 ? error_prefix(err, r, "line %u", o->line) : r;
                }

        for (size_t j = 0; warnings && j < file->n_options; j++) {
                reading.option = &file->options[j];
                TRY(options_warn_option(&reading, file));
        }

        *ret = TAKE_STRUCT(placement);
        return 0;
}
