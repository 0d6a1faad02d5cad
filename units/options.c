#include "units/options.h"

#include <strings.h>

#include "units/data.h"
#include "units/machine.h"
#include "units/name.h"
#include "units/options_internal.h"
#include "units/revision.h"

/* What an invalid value of a stored unit means: a later version may have accepted it, and an older one took
 * options that were added later for unknown ones. What users submit is also read without a name, or with
 * warnings, and is rejected. */
typedef enum OptionStored {
        STORED_REJECTED,
        STORED_UNKNOWN, /* it counts as OptionRow.unknown */
        STORED_DEFAULT, /* it counts as the default; so does one of a template, and a specifier without a name
                         */
} OptionStored;

struct OptionRow {
        const char *name;
        /* Take an item of the value, into the field: 0 or an error. */
        int (*take)(Reading *r, const char *item, void *field);
        uint16_t field; /* a member of Placement, if 'take' sets one of several */
        uint8_t kind;   /* UnitCheckKind, of a check */
        int8_t unknown; /* the value of another word, and of no number */
        OptionStored stored : 8;
        uint8_t level; /* see options_level() */
        bool is_port : 1;
        bool old : 1;                         /* an old spelling: accepted, not suggested */
        const char *expected, *below, *above; /* for messages; 'below' and 'above' NULL: 'expected' */
        const char *const *words;             /* of the values from 0 on; ends with NULL */
        uint64_t min, max;                    /* of a number or a span; 0: SPAN_MAX_MS */
        uint64_t zero_ms;                     /* instead of a span of 0 */
        const char *word;                     /* another value of a span; NULL: none */
        uint64_t word_ms;
};

/* Reject an item of the current option: -EINVAL. */
static int options_refuse(Reading *r, const char *item, const char *why) {
        return error_set(r->err, -EINVAL, "%s=%.128s: %s", r->option->name, item, why);
}

static bool options_has_specifier(const char *item) {
        for (const char *p = item; (p = strchr(p, '%')); p++)
                if (p[1] && strchr("nNpi", p[1]))
                        return true;
        return false;
}

static bool options_are_stored(const Reading *r) {
        return r->name && !r->warnings;
}

/* Return whether unit_check() reads the value, with the name of the instance. */
static bool options_wait(const Reading *r, const char *item) {
        return r->name ? unit_name_is_template(r->name) && options_has_specifier(r->option->value) :
                         options_has_specifier(item);
}

/* Return whether an invalid value has a meaning in this unit, which the caller has set. */
static bool options_accept(const Reading *r, const char *item) {
        return (r->row->stored != STORED_REJECTED && options_are_stored(r)) ||
               (r->row->stored == STORED_DEFAULT && options_wait(r, item));
}

static int options_refuse_value(Reading *r, const char *item, const char *why) {
        return options_accept(r, item) ? 0 : options_refuse(r, item, why);
}

static int options_read_word(Reading *r, const char *item, int *ret) {
        const char *const *words = r->row->words;

        for (*ret = 0; words[*ret]; (*ret)++)
                if (streq(words[*ret], item))
                        return 0;
        *ret = *item ? r->row->unknown : 0;
        return *item ? options_refuse_value(r, item, r->row->expected) : 0;
}

/* An enum. */
static int take_word(Reading *r, const char *item, void *field) {
        return options_read_word(r, item, field);
}

/* A bool: whether the value is the second word. */
static int take_second_word(Reading *r, const char *item, void *field) {
        int word, k = options_read_word(r, item, &word);

        *(bool *) field = word > 0;
        return k;
}

/* An unsigned, or an int. */
static int take_number(Reading *r, const char *item, void *field) {
        unsigned *ret = field, min = (unsigned) r->row->min, max = (unsigned) r->row->max;
        char expected[48];
        uint64_t n;

        *ret = (unsigned) r->row->unknown;
        if (!*item)
                return 0;
        snprintf(expected, sizeof(expected), "expected %u to %u", min, max);
        if (parse_u64(item, &n) < 0 || n < min || n > max)
                return options_refuse_value(r, item, r->row->expected ?: expected);
        *ret = (unsigned) n;
        return 0;
}

/* A uint64_t, in ms. Earlier versions had no limit for spans whose stored values no default replaces. */
static int take_span(Reading *r, const char *item, void *field) {
        const OptionRow *row = r->row;
        bool unlimited = row->stored == STORED_REJECTED && options_are_stored(r);
        uint64_t *ret = field, ms;

        *ret = 0;
        if (!*item)
                return 0;
        if (row->word && streq(item, row->word)) {
                *ret = row->word_ms;
                return 0;
        }
        if (parse_span_ms(item, &ms) < 0 || (ms > SPAN_MAX_MS && !unlimited))
                return options_refuse_value(r, item, row->expected);
        if (ms < row->min)
                return options_refuse_value(r, item, row->below ?: row->expected);
        if (row->max > 0 && ms > row->max)
                return options_refuse_value(r, item, row->above);
        *ret = ms > 0 ? MIN(ms, (uint64_t) SPAN_MAX_MS) : row->zero_ms;
        return 0;
}

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

static const char list_blanks[] = " \t\n\v\f\r";

/* Only in this option and in Spread=, white space separates items without quotes. */
static int take_conflicts(Reading *r, const char *item, void *field) {
        while (*(item += strspn(item, list_blanks))) {
                size_t size = strcspn(item, list_blanks);

                TRY(take_name(r, &r->placement->conflicts, item, size));
                item += size;
        }
        return 0;
}

static int take_spread(Reading *r, const char *item, void *field) {
        Names *keys = field;
        size_t size;

        for (; *(item += strspn(item, list_blanks)); item += size) {
                char key[METADATA_KEY_MAX + 2]; /* one of them is too long */

                size = strcspn(item, list_blanks);
                snprintf(key, sizeof(key), "%.*s", (int) MIN(size, sizeof(key)), item);
                if (machine_metadata_check(key, "", NULL) < 0)
                        TRY(options_refuse_value(r, key,
                                                 "a key of metadata has letters, digits, '_', '.' and '-'"));
                else if (names_have(keys, key) || keys->n >= SPREAD_KEYS_MAX)
                        TRY(options_refuse_value(r, key,
                                                 names_have(keys, key) ? "named twice" : "at most 4 keys"));
                else
                        TRY(names_add(keys, key, size));
        }
        return 0;
}

/* A member of Resources. */
static int take_request(Reading *r, const char *item, void *field) {
        const OptionRow *row = r->row;
        uint32_t *ret = field, n = 0;
        int k = 0;

        *ret = 0;
        if (*item)
                k = row->field == offsetof(Placement, request.memory_mib) ?
                            resources_parse_memory(item, false, &n) :
                            resources_parse_percent(item, &n);
        if (k < 0 || n > row->max)
                return options_refuse_value(r, item, k < 0 ? row->expected : row->above);
        *ret = n;
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

static int take_share(Reading *r, const char *item, void *field) {
        Share *ret = field;
        size_t digits = strspn(item, "0123456789");
        bool large = digits > 0 && streq(item + digits, "%");

        *ret = (Share) {};
        if (!*item || share_parse(item, ret) >= 0)
                return 0;
        return options_refuse_value(r, item,
                                    large ? "expected at most 100%" :
                                            "expected a number or a percentage, for example 2 or 25%");
}

static int take_update_by(Reading *r, const char *item, void *field) {
        UpdatePolicy *update = &r->placement->update;

        free(update->by);
        update->by = NULL;
        if (!*item)
                return 0;
        if (item[strcspn(item, " \t=\"")])
                return options_refuse_value(r, item, "expected one metadata key");
        return copy_string(item, &update->by);
}

/* Service=, or Port= if it is the port of a unit. */
static int take_service(Reading *r, const char *item, void *field) {
        const ServiceItem i = { .option = r->row->name,
                                .value = item,
                                .unit = r->name,
                                .is_part = r->file->is_part || r->waits,
                                .line = r->option->line,
                                .lines = r->lines };
        Error why = {};
        int k;

        r->waits |= options_wait(r, item);
        if (!*item || options_wait(r, item))
                return 0;
        k = r->row->is_port ? service_policy_add_port(field, &i, &why) :
                              service_policy_add_name(field, &i, &why);
        if (k != -EINVAL)
                return k;
        return options_are_stored(r) ? 0 : error_set(r->err, -EINVAL, "%s", why.message);
}

/* Find the port that the last check names. That may be an instance's, or an option that is not read. */
static int options_find_port(Reading *r, const char *item) {
        const HealthPolicy *health = &r->placement->health;
        UnitCheck *check = &health->checks[health->n_checks - 1];
        const ServicePort *port = service_port(&r->placement->service, check->port_name, PORT_TCP);
        char why[64];

        if (port)
                check->port = (unsigned) port->number;
        if (port || !check->port_name[0] || !r->name || r->file->is_part || r->waits)
                return 0;
        snprintf(why, sizeof(why), "the unit has no tcp port \"%s\" (Port=)", check->port_name);
        return options_refuse_value(r, item, why);
}

static int take_check(Reading *r, const char *item, void *field) {
        const OptionRow *row = r->row;
        int k;

        if (!*item)
                return 0;
        k = health_policy_add(&r->placement->health, row->kind, item);
        if (k == -E2BIG)
                return error_set(r->err, -EINVAL, "%s=: a unit has at most %d checks", row->name,
                                 HEALTH_CHECKS_MAX);
        if (k == -EINVAL)
                return options_refuse_value(r, item, *item == '/' && row->below ? row->below : row->expected);
        return k < 0 ? k : options_find_port(r, item);
}

/* Return 1 if the unit can have inputs; 0: it is stored, and has none; or an error. */
static int options_check_input(Reading *r) {
        if (!*r->option->value || !r->name || text_has_word("service container", unit_name_type(r->name)))
                return 1;
        return options_are_stored(r) ?
                       0 :
                       error_set(r->err, -EINVAL, "%s= is for .service and .container files", r->row->name);
}

static int take_on_change(Reading *r, const char *item, void *field) {
        return TRY(options_check_input(r)) > 0 ? take_word(r, item, field) : 0;
}

/* An item of a list of InputPolicy: 'kind' is the place of its function. */
static int take_input(Reading *r, const char *item, void *field) {
        static int (*const add[])(InputPolicy *, const char *, Error *) = { input_policy_add_secret,
                                                                            input_policy_add_environment,
                                                                            input_policy_add_files };
        bool waits = options_wait(r, item);
        Error why = {};
        int k;

        if (TRY(options_check_input(r)) == 0 || !*item || (waits && (!r->name || r->row->kind == 0)))
                return 0;
        if (waits)
                k = input_policy_add_shared(field, r->name, r->item, r->row->kind == 2, &why);
        else
                k = add[r->row->kind](field, item, &why);
        if (k != -EINVAL)
                return k;
        return options_are_stored(r) ? 0 : options_refuse(r, waits ? r->item : item, why.message);
}

/* Any text, which is only compared (units/effect.h). */
static int take_trigger(Reading *r, const char *item, void *field) {
        return 0;
}

#define PLACEMENT(member) offsetof(Placement, member)
#define UPDATES           .stored = STORED_DEFAULT, .level = OPTION_LEVEL_UPDATES
#define SERVICES          .stored = STORED_DEFAULT, .level = OPTION_LEVEL_SERVICES
#define SCHEDULING        .stored = STORED_DEFAULT, .level = OPTION_LEVEL_SCHEDULING
#define INPUTS            .stored = STORED_DEFAULT, .level = OPTION_LEVEL_INPUTS

/* The [X-Fleet] options, one per line. fleet.unit(5) documents the same names. Values of an option with
 * several spellings are taken in the order of this table. */
static const OptionRow fleet_options[] = {
        { "MachineID", take_machine_id },
        { "X-ConditionMachineID", take_machine_id, .old = true },
        { "X-ConditionMachineBootID", take_machine_id, .old = true },
        { "X-ConditionMachineOf", take_unit, PLACEMENT(machine_of), .old = true },
        { "MachineOf", take_unit, PLACEMENT(machine_of) },
        { "X-ConditionMachineMetadata", take_metadata, .old = true },
        { "MachineMetadata", take_metadata },
        { "X-Conflicts", take_conflicts, .old = true },
        { "Conflicts", take_conflicts },
        { "Replaces", take_unit, PLACEMENT(replaces) },
        { "Global", take_global },
        { "Singleton", take_singleton },
        { "KeepRevisions", take_number, PLACEMENT(keep_revisions), .min = REVISIONS_KEPT_MIN,
          .max = REVISIONS_KEPT_MAX },
        { "Move", take_word, PLACEMENT(move), .expected = "expected start-first, stop-first or no",
          .words = (const char *const[]) { "", "start-first", "stop-first", "no", NULL },
          .unknown = PLACEMENT_MOVE_UNKNOWN, .stored = STORED_UNKNOWN },
        { "TargetState", take_word, PLACEMENT(target), .expected = "expected loaded or launched",
          .words = (const char *const[]) { "", "loaded", "launched", NULL }, .stored = STORED_UNKNOWN },
        { "ReplaceAfterSec", take_span, PLACEMENT(replace_after_ms),
          .expected = "expected never or a time span, for example 30s", .word = "never",
          .word_ms = REPLACE_NEVER },
        { "OnPartition", take_second_word, PLACEMENT(stops_alone), .expected = "expected keep or stop",
          .words = (const char *const[]) { "keep", "stop", NULL } },
        { "StopAfterSec", take_span, PLACEMENT(stop_after_ms),
          .expected = "expected a time span of at least 10s, for example 1min", .min = STOP_AFTER_MIN_MS },
        { "OnReconnect", take_second_word, PLACEMENT(keeps_old), .expected = "expected keep-new or keep-old",
          .words = (const char *const[]) { "keep-new", "keep-old", NULL }, .level = OPTION_LEVEL_UPDATES },
        { "MaxUnavailable", take_share, PLACEMENT(update.max_unavailable), UPDATES },
        { "MinAvailable", take_share, PLACEMENT(update.min_available), UPDATES },
        { "MaxSurge", take_share, PLACEMENT(update.max_surge), UPDATES },
        { "Canary", take_share, PLACEMENT(update.canary), UPDATES },
        { "UpdateMaxFailures", take_share, PLACEMENT(update.max_failures), UPDATES },
        { "UpdateWatchSec", take_span, PLACEMENT(update.watch_ms),
          .expected = "expected a time span, for example 30s", .zero_ms = 1, UPDATES },
        { "UpdatePauseSec", take_span, PLACEMENT(update.pause_ms),
          .expected = "expected a time span, for example 30s", UPDATES },
        { "UpdateDeadlineSec", take_span, PLACEMENT(update.deadline_ms),
          .expected = "expected a time span, for example 30s", .zero_ms = 1, UPDATES },
        { "Promote", take_span, PLACEMENT(update.promote_ms), .expected = "expected manual or a time span",
          .word = "manual", .zero_ms = 1, UPDATES },
        { "UpdateBy", take_update_by, UPDATES },
        { "UpdateOnFailure", take_word, PLACEMENT(update.on_failure),
          .expected = "expected pause, revert or continue",
          .words = (const char *const[]) { "pause", "revert", "continue", NULL }, UPDATES },
        { "Service", take_service, PLACEMENT(service), SERVICES },
        { "Port", take_service, PLACEMENT(service), .is_port = true, SERVICES }, /* between its neighbours */
        { "WithdrawSec", take_span, PLACEMENT(service.withdraw_ms),
          .expected = "expected a time span, for example 2s", .above = "expected at most 10min",
          .max = WITHDRAW_MAX_MS, .zero_ms = 1, SERVICES },
        { "HealthHttp", take_check, .kind = UNIT_CHECK_HTTP,
          .expected = "expected [ADDR:]PORT/PATH, ADDR of its own host, for example 8080/ready or http/ready",
          UPDATES },
        { "HealthTcp", take_check, .kind = UNIT_CHECK_TCP,
          .expected = "expected [ADDR:]PORT, ADDR of its own host, for example 8080 or http", UPDATES },
        { "HealthExec", take_check, .kind = UNIT_CHECK_EXEC, .expected = "expected an absolute path",
          .below = "expected a closing quote", UPDATES },
        { "HealthIntervalSec", take_span, PLACEMENT(health.interval_ms),
          .expected = "expected a time span, for example 10s", .below = "expected at least 1s",
          .above = "expected at most 1h", .min = HEALTH_INTERVAL_MIN_MS, .max = HEALTH_INTERVAL_MAX_MS,
          UPDATES },
        { "HealthTimeoutSec", take_span, PLACEMENT(health.timeout_ms),
          .expected = "expected a time span above 0, for example 2s", .min = 1, UPDATES },
        { "HealthStartSec", take_span, PLACEMENT(health.start_ms),
          .expected = "expected a time span, for example 30s", UPDATES },
        { "HealthFailures", take_number, PLACEMENT(health.failures), .min = 1, .max = HEALTH_RESULTS_MAX,
          UPDATES },
        { "HealthSuccesses", take_number, PLACEMENT(health.successes), .min = 1, .max = HEALTH_RESULTS_MAX,
          UPDATES },
        { "HealthAction", take_word, PLACEMENT(health.action), .expected = "expected none or restart",
          .words = (const char *const[]) { "none", "restart", NULL }, UPDATES },
        { "Sticky", take_word, PLACEMENT(sticky), .expected = "expected yes or no",
          .words = (const char *const[]) { "", "yes", "no", NULL }, SCHEDULING },
        { "Replicas", take_number, PLACEMENT(replicas), .expected = "expected a number from 0 to 1000",
          .max = UNIT_REPLICAS_MAX, .unknown = -1, SCHEDULING },
        { "MaxPerMachine", take_number, PLACEMENT(max_per_machine),
          .expected = "expected a number from 1 to 10000; Replicas=0 runs none", .min = 1,
          .max = MAX_PER_MACHINE_MAX, SCHEDULING },
        { "Spread", take_spread, PLACEMENT(spread), SCHEDULING },
        { "MemoryRequest", take_request, PLACEMENT(request.memory_mib),
          .expected = "expected a size such as 300M or 2G, or 0", .above = "expected at most 16T",
          .max = MEMORY_REQUEST_MAX_MIB, SCHEDULING },
        { "CPURequest", take_request, PLACEMENT(request.cpu_percent),
          .expected = "expected a percentage of one core such as 50% or 200%",
          .above = "expected at most 100000%", .max = CPU_REQUEST_MAX_PERCENT, SCHEDULING },
        { "Secret", take_input, PLACEMENT(inputs), .kind = 0, INPUTS },
        { "EnvironmentKeys", take_input, PLACEMENT(inputs), .kind = 1, INPUTS },
        { "ConfigKeys", take_input, PLACEMENT(inputs), .kind = 2, INPUTS },
        { "OnChange", take_on_change, PLACEMENT(inputs.on_change),
          .expected = "expected none, reload or restart",
          .words = (const char *const[]) { "none", "reload", "restart", NULL }, INPUTS },
        { "ReloadTrigger", take_trigger, .level = OPTION_LEVEL_UPDATES },
        { "RestartTrigger", take_trigger, .level = OPTION_LEVEL_UPDATES },
};

static int options_take_item(Reading *r, void *field, const char *item) {
        _cleanup_free_ char *expanded = NULL;

        r->item = item;
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
        if (strlen(item) > OPTION_ITEM_MAX * (r->row->take == take_conflicts ? 64 : 1))
                return options_refuse(r, item, "too long");
        return r->row->take(r, item, field);
}

/* A value in quotes is a list: quotes are removed, and each space outside of quotes separates two items. */
static int options_take_value(Reading *r, void *field) {
        const char *value = r->option->value;
        _cleanup_text_ Text item = {};
        bool quoted = false;

        if (value[0] != '"' || !ends_with(value, "\""))
                return options_take_item(r, field, value);

        text_append(&item, "");
        for (const char *p = value; *p; p++)
                if (*p == '"')
                        quoted = !quoted;
                else if (*p == ' ' && !quoted) {
                        TRY(item.error);
                        TRY(options_take_item(r, field, item.chars));
                        text_clear(&item);
                } else
                        text_append_char(&item, *p);
        return item.error < 0 ? item.error : options_take_item(r, field, item.chars);
}

unsigned options_level(const char *name) {
        for (size_t i = 0; i < ELEMENTS(fleet_options); i++)
                if (streq(name, fleet_options[i].name))
                        return fleet_options[i].level;
        return 0;
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

static const char *const publishing[] = { "Container", "Pod" };

static int options_warn_option(Reading *r, const UnitFile *file) {
        const UnitOption *o = r->option;
        const char *nearest;

        if (!unit_file_section_is_ours(o->section))
                return options_warn_section(r, file);
        for (size_t i = 0; i < ELEMENTS(fleet_options); i++)
                if (streq(o->name, fleet_options[i].name))
                        return *o->value && !file->is_part ? options_warn_effect(r, file) : 0;
        nearest = r->warnings->n < WARNINGS_MAX ? options_nearest(o->name) : NULL;
        return options_warn(r, "[%s] has no option %.64s%s%s%s", o->section, o->name,
                            nearest ? "; did you mean " : "", nearest ?: "", nearest ? "?" : "");
}

/* List the ports by which units exclude each other. */
static int options_list_ports(Reading *r) {
        Placement *p = r->placement;

        TRY(service_policy_list_ports(&p->service, &p->ports));
        if (r->name && !text_has_word("container pod", unit_name_type(r->name)))
                return 0;
        for (size_t i = 0; i < r->file->n_options && p->published.n < OPTION_ITEMS_MAX; i++) {
                const UnitOption *o = &r->file->options[i];
                _cleanup_free_ char *value = NULL;

                if (!streq(o->name, "PublishPort") || !IS_AMONG(o->section, publishing))
                        continue;
                value = r->name ? unit_name_expand(r->name, o->value) : strdup(o->value);
                if (!value)
                        return -ENOMEM;
                if (!*value) /* forgets the former ones */
                        names_done(&p->published);
                TRY(service_list_published(value, &p->published));
        }
        return 0;
}

int options_read(const UnitFile *file, const char *name, Placement *ret, Warnings *warnings, Error *err) {
        _cleanup_placement_ Placement placement = { .replicas = -1 };
        Reading reading = {
                .name = name, .file = file, .placement = &placement, .warnings = warnings, .err = err
        };
        int r;

        for (size_t i = 0; i < ELEMENTS(fleet_options); i++)
                for (size_t j = 0; j < file->n_options; j++) {
                        const UnitOption *o = reading.option = &file->options[j];

                        if (!unit_file_section_is_ours(o->section) || !streq(o->name, fleet_options[i].name))
                                continue;
                        reading.row = &fleet_options[i];
                        r = options_take_value(&reading, (char *) &placement + reading.row->field);
                        if (r == -ENOMEM)
                                return r;
                        if (r < 0)
                                return o->line > 0 ? error_prefix(err, r, "line %u", o->line) : r;
                }

        TRY(options_list_ports(&reading));
        TRY(resources_of_file(name, file, placement.request, &placement.size, &reading.max_mib));
        TRY(data_find(name, file, &placement.data, &placement.host_path));
        for (size_t j = 0; warnings && j < file->n_options; j++) {
                reading.option = &file->options[j];
                TRY(options_warn_option(&reading, file));
        }

        *ret = TAKE_STRUCT(placement);
        return 0;
}
