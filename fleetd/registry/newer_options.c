#include "fleetd/registry/newer_options.h"

#include "fleetd/registry/unit_order.h"

enum {
        OPTIONS_CHECKED_MAX =
                30000,     /* of the instances of the templates of a request, which holds the loop */
        OPTION_BYTES = 64, /* of text that is read with drop-ins: they cost as much as an option */
};

static_assert((int) OPTION_LEVEL_UPDATES == (int) KV_LEVEL_UPDATES &&
                      (int) OPTION_LEVEL_SERVICES == (int) KV_LEVEL_SERVICES &&
                      (int) OPTION_LEVEL_SCHEDULING == (int) KV_LEVEL_SCHEDULING &&
                      (int) OPTION_LEVEL_INPUTS == (int) KV_LEVEL_INPUTS,
              "units/ does not include the store");

static int cluster_refuse_option(const char *option, unsigned needed, unsigned level, Error *err) {
        return error_set(err, -EOPNOTSUPP,
                         "%s begins at feature level %u, and this cluster has level %u; when all hosts run "
                         "this version: fleetctl cluster level %u",
                         option, needed, level, needed);
}

int cluster_check_options(const Unit *unit, unsigned level, Error *err) {
        const Placement *p = &unit->placement;
        char option[64];
        const struct {
                bool used;
                unsigned level;
                const char *option;
        } rows[] = {
                { p->singleton, KV_LEVEL_ATTACHED, "Singleton=yes" },
                { p->replace_after_ms > 0, KV_LEVEL_REVISIONS, "ReplaceAfterSec=" },
                { p->stops_alone, KV_LEVEL_REVISIONS, "OnPartition=stop" },
        };

        for (size_t i = 0; level > 0 && i < unit->file.n_options; i++) {
                const UnitOption *o = &unit->file.options[i];
                unsigned needed = unit_file_section_is_ours(o->section) && *o->value ?
                                          options_level(o->name) :
                                          0;

                if (level < needed) {
                        snprintf(option, sizeof(option), "%s=", o->name);
                        return cluster_refuse_option(option, needed, level, err);
                }
        }
        for (size_t i = 0; level > 0 && i < ELEMENTS(rows); i++)
                if (rows[i].used && level < rows[i].level)
                        return cluster_refuse_option(rows[i].option, rows[i].level, level, err);
        return 0;
}

/* A step of the rollout writes this text: it has to keep the rules of each unit, and its size. */
static int check_with_drop_ins(const Unit *instance, const Unit *template, Error *err) {
        _cleanup_unit_ Unit *whole = NULL;
        size_t steps = 0;
        int r = unit_compose(instance, template, &whole);

        return r < 0 ? r : unit_check(whole, &steps, err);
}

/* Return how many options the check of an instance reads: those of the template, and with drop-ins of its own
 * all of a text that is parsed for it. */
static size_t options_of_check(const Unit *instance, const Unit *template) {
        size_t n = MAX(template->file.n_options, (size_t) 1);

        if (instance->own_size == 0)
                return n;
        return n + instance->file.n_options + (template->text_size + instance->own_size) / OPTION_BYTES;
}

static int cluster_check_instances(const Cluster *c, const Unit *unit, size_t *checked, Error *err) {
        UnitPosition at = {};

        for (size_t n = unit_order_instances(&c->by_name, unit->name, &at);
             n > 0 && *checked < OPTIONS_CHECKED_MAX; n--) {
                const ClusterUnit *u = unit_order_next(&c->by_name, &at);
                int r;

                if (!u || !u->unit || !u->unit->from || !streq(u->unit->from, unit->name)) {
                        ++*checked;
                        continue;
                }
                *checked += options_of_check(u->unit, unit);
                r = u->unit->own_size > 0 ? check_with_drop_ins(u->unit, unit, err) :
                                            unit_check_expanded(unit, u->name, err);
                if (r < 0)
                        return r == -ENOMEM ? r : error_prefix(err, r, "%s", u->name);
        }
        return 0;
}

int cluster_check_followers(const Cluster *c, const Unit *unit, size_t *checked, Error *err) {
        const Placement *p = &unit->placement;
        const Pattern *followers = patterns_find(&c->rules[CLUSTER_MACHINE_OF], unit->name);

        /* An instance has the text of its template. */
        if (unit_name_is_instance(unit->name) && !cluster_template(c, unit->name))
                TRY(unit_refuse_of_template(unit, "Replicas", err));
        for (size_t i = 0; p->update.max_surge.value > 0 && followers && i < followers->n; i++)
                if (!streq(followers->units[i]->name, unit->name))
                        return error_set(err, -EINVAL, "MaxSurge=: %s follows this unit by MachineOf=",
                                         followers->units[i]->name);
        for (size_t i = 0; i < p->machine_of.n; i++) {
                const ClusterUnit *leading = cluster_unit(c, p->machine_of.items[i]);

                if (leading && leading->unit && leading->unit->placement.update.max_surge.value > 0)
                        return error_set(err, -EINVAL,
                                         "MachineOf=%s: that unit has MaxSurge=, and runs on two machines "
                                         "during an update",
                                         leading->name);
        }
        return unit_name_is_template(unit->name) ? cluster_check_instances(c, unit, checked, err) : 0;
}
