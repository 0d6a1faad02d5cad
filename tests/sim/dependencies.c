/* What units do to each other: triggers and Requires=, by the texts that systemd has in force. Written for
 * the simulation: it shares nothing with the classes of the product. */

#include "tests/sim/systemd_internal.h"

static const Unit *unit_loaded(const SimUnit *u) {
        return sim_unit_text(u, u->loaded);
}

static const char *unit_option(const SimUnit *u, const char *section, const char *name) {
        const Unit *text = unit_loaded(u);

        return text ? unit_file_get(&text->file, section, name) : NULL;
}

bool sim_unit_is_oneshot(const SimUnit *u) {
        const char *type = unit_option(u, "Service", "Type");

        return type && streq(type, "oneshot");
}

bool sim_unit_remains(const SimUnit *u) {
        const char *value = unit_option(u, "Service", "RemainAfterExit");

        return value && streq(value, "yes");
}

bool sim_unit_is_timer(const SimUnit *u) {
        return ends_with(u->name, ".timer");
}

const char *sim_unit_triggers(const SimUnit *u) {
        static char name[256]; /* until the next call */
        static const struct {
                const char *type, *section, *option, *to;
        } rows[] = {
                { ".timer", "Timer", "Unit", ".service" },
                { ".path", "Path", "Unit", ".service" },
                { ".socket", "Socket", "Service", ".service" },
                { ".automount", "Automount", "-", ".mount" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *named = unit_option(u, rows[i].section, rows[i].option);

                if (!ends_with(u->name, rows[i].type))
                        continue;
                if (named)
                        return named;
                if (unit_option(u, "Socket", "Accept")) /* instances, for each connection */
                        return NULL;
                snprintf(name, sizeof(name), "%.*s%s", (int) (strlen(u->name) - strlen(rows[i].type)),
                         u->name, rows[i].to);
                return name;
        }
        return NULL;
}

bool sim_unit_is_held(const SimSystemd *s, const SimUnit *u) {
        const SimUnit *other;

        LIST_FOREACH(other, &s->units, of_systemd) {
                const char *name = other->running[0] ? sim_unit_triggers(other) : NULL;

                if (name && streq(name, u->name))
                        return true;
        }
        return false;
}

/* Not by the daemon. */
static int unit_start_related(SimSystemd *s, const char *name) {
        SimUnit *u = sim_unit_get(s, name);
        int r;

        if (u->running[0])
                return 0;
        r = sim_unit_start(s, name, false);
        if (r < 0)
                return r;
        if (!u->starting)
                sim_job_removed(s, name, "done");
        sim_unit_changed(s, name);
        return 0;
}

static bool unit_requires(const SimUnit *u, const char *name) {
        const char *required = unit_option(u, "Unit", "Requires");

        return required && streq(required, name);
}

int sim_unit_start_required(SimSystemd *s, const SimUnit *u) {
        const char *required = unit_option(u, "Unit", "Requires"), *triggered = sim_unit_triggers(u);

        if (triggered && !sim_unit_load(s, triggered))
                return -ENOEXEC;
        return required ? unit_start_related(s, required) : 0;
}

void sim_unit_stop_requiring(SimSystemd *s, const char *name) {
        SimUnit *u;

        LIST_FOREACH(u, &s->units, of_systemd) {
                if (!u->running[0] || !unit_requires(u, name))
                        continue;
                sim_unit_stop(s, u, false);
                u->end = SYSTEMD_END_STOPPED_FOR;
                sim_unit_changed(s, u->name);
        }
}

void sim_unit_trigger(SimSystemd *s, SimUnit *u) {
        const char *name = sim_unit_triggers(u);

        if (name && sim_unit_load(s, name) && unit_start_related(s, name) == 0)
                return;
        sim_unit_stop(s, u, false);
        u->failed = true;
        sim_unit_changed(s, u->name);
}
