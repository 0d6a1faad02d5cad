#include "units/options_internal.h"

#include <strings.h>

#include "units/effect.h"

int options_warn(Reading *r, const char *format, ...) {
        Warnings *warnings = r->warnings;
        _cleanup_text_ Text t = {};
        va_list ap;

        if (!warnings || warnings_are_full(warnings, r->option->line))
                return 0;

        va_start(ap, format);
        text_vprintf(&t, format, ap);
        va_end(ap);
        return t.error < 0 ? t.error : warnings_add(warnings, r->option->line, t.chars);
}

/* Return why an option with a value has no effect, or not all of it, beside the others; NULL: it has. */
static const char *options_useless(const Reading *r, const char *name) {
        const Placement *p = r->placement;
        bool sticky = p->sticky == STICKY_YES;
        const struct {
                const char *name;
                bool useless;
                const char *why;
        } rows[] = {
                { "Sticky", p->machine_id,
                  "Sticky= has no effect with MachineID=: no other machine may run the unit" },
                { "Move", sticky, "Move= has no effect with Sticky=yes: the unit stays where its data is" },
                { "ReplaceAfterSec", sticky,
                  "ReplaceAfterSec= has no effect with Sticky=yes: the unit waits for the machine of its "
                  "data" },
                { "OnReconnect", sticky,
                  "OnReconnect= has no effect with Sticky=yes: no other machine runs the unit meanwhile" },
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
                { "MemoryRequest", r->max_mib > 0 && p->request.memory_mib > r->max_mib,
                  "MemoryRequest= is above MemoryMax=: the unit cannot use all of it" },
                { "WithdrawSec", p->service.names.n + p->service.n_ports == 0 && !r->waits,
                  "WithdrawSec= has no effect without Service= or Port=" },
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

/* Return whether the file has one of the options, with a value. One with a specifier is in no policy yet. */
static bool options_have(const UnitFile *file, const char *names) {
        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];

                if (unit_file_section_is_ours(o->section) && *o->value && text_has_word(names, o->name))
                        return true;
        }
        return false;
}

/* Warn that nothing, or not all that a unit names, can change. */
static int options_warn_on_change(Reading *r, const UnitFile *file) {
        if (!options_have(file, "Secret EnvironmentKeys ConfigKeys"))
                return options_warn(
                        r, "OnChange= has no effect without Secret=, EnvironmentKeys= or ConfigKeys=");
        if (!streq(r->option->value, "reload") || !options_have(file, "Secret EnvironmentKeys"))
                return 0;
        return options_warn(r, "OnChange=reload: only files of ConfigKeys= change at a reload; secrets and "
                               "variables wait for a start");
}

/* The sections of systemd, and those of Podman's quadlets. */
static const char *const warned_sections[] = {
        "Artifact", "Automount", "Build", "Container", "Image",   "Install", "Kube",
        "Mount",    "Network",   "Path",  "Pod",       "Quadlet", "Scope",   "Service",
        "Slice",    "Socket",    "Swap",  "Timer",     "Unit",    "Volume",
};

/* Return the section that is probably meant, or NULL. Systemd ignores all that begin with X-. */
static const char *options_nearest_section(const char *section) {
        const char *nearest = NULL;
        size_t best = 3;

        if (strcasecmp(section, "X-Fleet") == 0 || strcasecmp(section, "Fleet") == 0 ||
            strcasecmp(section, "XFleet") == 0 || text_distance(section, "X-Fleet") < best)
                return "X-Fleet";
        for (size_t i = 0; i < ELEMENTS(warned_sections) && !starts_with(section, "X-"); i++) {
                size_t distance = text_distance(section, warned_sections[i]);

                if (distance < best && (section[0] | 0x20) == (warned_sections[i][0] | 0x20)) {
                        best = distance;
                        nearest = warned_sections[i];
                }
        }
        return nearest;
}

int options_warn_section(Reading *r, const UnitFile *file) {
        const UnitOption *o = r->option, at = { .line = o->section_line };
        const char *nearest;
        int k;

        if (!*o->section || (o > file->options && streq(o[-1].section, o->section)) ||
            IS_AMONG(o->section, warned_sections))
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

int options_warn_effect(Reading *r, const UnitFile *file) {
        const UnitOption *o = r->option;
        const char *useless = options_useless(r, o->name);

        if (useless)
                return options_warn(r, "%s", useless);
        if (starts_with(o->name, "Health") && !options_have(file, "HealthHttp HealthTcp HealthExec"))
                return options_warn(
                        r, "%s= has no effect without HealthHttp=, HealthTcp= or HealthExec=", o->name);
        if (streq(o->name, "OnPartition") && streq(o->value, "stop"))
                return options_warn_twice(r);
        if (streq(o->name, "ReloadTrigger"))
                return options_warn_reload(r, file);
        return streq(o->name, "OnChange") ? options_warn_on_change(r, file) : 0;
}
