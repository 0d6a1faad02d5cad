#include "units/effect.h"

#include "units/quadlet.h"

const char *const unit_effect_names[_UNIT_EFFECT_MAX] = {
        [EFFECT_NONE] = "none",
        [EFFECT_LIVE] = "live",
        [EFFECT_RELOAD] = "reload",
        [EFFECT_RESTART] = "restart",
};

/* tests/lab/test-effects.sh has a row for each live option: it acts on a running service when systemd 252 has
 * read the file again. Of other types of units no option is live. */
static const struct {
        const char *section, *name;
        UnitEffect effect;
} effects[] = {
        { "Unit", "Description", EFFECT_NONE },
        { "Unit", "Documentation", EFFECT_NONE },
        { "Unit", "OnFailure", EFFECT_LIVE },
        { "Unit", "StartLimitIntervalSec", EFFECT_LIVE },
        { "Unit", "StartLimitBurst", EFFECT_LIVE },
        { "Unit", "StartLimitAction", EFFECT_LIVE },
        { "Service", "CPUWeight", EFFECT_LIVE },
        { "Service", "CPUQuota", EFFECT_LIVE },
        { "Service", "CPUQuotaPeriodSec", EFFECT_LIVE },
        { "Service", "MemoryMin", EFFECT_LIVE },
        { "Service", "MemoryLow", EFFECT_LIVE },
        { "Service", "MemoryHigh", EFFECT_LIVE },
        { "Service", "MemoryMax", EFFECT_LIVE },
        { "Service", "MemorySwapMax", EFFECT_LIVE },
        { "Service", "IOWeight", EFFECT_LIVE },
        { "Service", "TasksMax", EFFECT_LIVE },
        { "Service", "Restart", EFFECT_LIVE },
        { "Service", "RestartSec", EFFECT_LIVE },
        { "Service", "RestartPreventExitStatus", EFFECT_LIVE },
        { "Service", "RestartForceExitStatus", EFFECT_LIVE },
        { "Service", "TimeoutSec", EFFECT_LIVE },
        { "Service", "TimeoutStartSec", EFFECT_LIVE },
        { "Service", "TimeoutStopSec", EFFECT_LIVE },
        { "Service", "TimeoutAbortSec", EFFECT_LIVE },
        { "Service", "ExecReload", EFFECT_LIVE },
        { "Service", "ExecStop", EFFECT_LIVE },
        { "Service", "KillMode", EFFECT_LIVE },
        { "Service", "KillSignal", EFFECT_LIVE },
};

UnitEffect effect_of_option(const char *section, const char *name) {
        if (unit_file_section_is_ours(section)) {
                if (streq(name, "ReloadTrigger"))
                        return EFFECT_RELOAD;
                return text_has_word("RestartTrigger Port Secret EnvironmentKeys ConfigKeys", name) ?
                               EFFECT_RESTART :
                               EFFECT_NONE;
        }
        if (streq(section, "Install"))
                return EFFECT_NONE;
        for (size_t i = 0; i < ELEMENTS(effects); i++)
                if (streq(section, effects[i].section) && streq(name, effects[i].name))
                        return effects[i].effect;
        return EFFECT_RESTART;
}

/* An option of a file, in the order of comparison. */
typedef struct EffectOption {
        const UnitOption *option; /* borrowed */
        const char *section;      /* [X-Fleetd] is [X-Fleet] */
        UnitEffect effect;
} EffectOption;

static int effect_compare(const void *a, const void *b) {
        const EffectOption *x = a, *y = b;

        if (x->effect != y->effect)
                return x->effect > y->effect ? -1 : 1; /* the strongest first */
        return strcmp(x->section, y->section) ?: x->option < y->option ? -1 : x->option > y->option;
}

/* Return the options sorted by effect, section and place; NULL: no memory. */
static EffectOption *effect_sort(const UnitFile *file) {
        EffectOption *options = NEW0(EffectOption, file->n_options + 1);

        for (size_t i = 0; options && i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];

                options[i] = (EffectOption) { o,
                                              unit_file_section_is_ours(o->section) ? "X-Fleet" : o->section,
                                              effect_of_option(o->section, o->name) };
        }
        if (options)
                qsort(options, file->n_options, sizeof(*options), effect_compare);
        return options;
}

static bool effect_equal(const EffectOption *a, const EffectOption *b) {
        return a->effect == b->effect && streq(a->section, b->section) &&
               streq(a->option->name, b->option->name) && streq(a->option->value, b->option->value);
}

int effect_of_text(const char *name, const UnitFile *former, const UnitFile *file, UnitEffect *ret) {
        _cleanup_free_ EffectOption *a = effect_sort(former), *b = effect_sort(file);
        size_t n = MIN(former->n_options, file->n_options), i = 0;
        UnitEffect effect = EFFECT_NONE;

        if (!a || !b)
                return -ENOMEM;
        while (i < n && effect_equal(&a[i], &b[i]))
                i++;
        /* Before the first difference, both have all options of stronger effects. */
        if (i < former->n_options)
                effect = a[i].effect;
        if (i < file->n_options)
                effect = MAX(effect, b[i].effect);

        if (effect == EFFECT_RELOAD && (!effect_can_reload(former) || !effect_can_reload(file)))
                effect = EFFECT_RESTART;
        if (effect == EFFECT_LIVE && quadlet_is(name))
                effect = EFFECT_RESTART;
        *ret = effect;
        return 0;
}

bool effect_can_reload(const UnitFile *file) {
        const char *type = unit_file_get(file, "Service", "Type"),
                   *command = unit_file_get(file, "Service", "ExecReload");

        return (type && streq(type, "notify-reload")) || (command && *command);
}
