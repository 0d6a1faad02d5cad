#include "fleetd/registry/data.h"

#include "fleetd/registry/cluster_parts.h"

enum { FOLLOWERS_CHAIN_MAX = 16 }; /* units that others follow, in one search */

static bool data_is_followed(const Cluster *c, const ClusterUnit *u) {
        return patterns_find(&c->rules[CLUSTER_MACHINE_OF], u->name);
}

/* Add a unit to the chain of a search, once. */
static void data_chain_add(const ClusterUnit **chain, size_t *n, const ClusterUnit *u) {
        for (size_t i = 0; i < *n; i++)
                if (chain[i] == u)
                        return;
        if (*n < FOLLOWERS_CHAIN_MAX)
                chain[(*n)++] = u;
}

const char *cluster_unit_data(const Cluster *c, const ClusterUnit *u, const ClusterUnit **ret_of) {
        const ClusterUnit *chain[FOLLOWERS_CHAIN_MAX] = { u },
                          *of = u->unit && u->unit->placement.data ? u : NULL;
        size_t n = 1;

        for (size_t i = 0; i < n && !of; i++) {
                const Pattern *followers = patterns_find(&c->rules[CLUSTER_MACHINE_OF], chain[i]->name);

                for (size_t k = 0; followers && k < followers->n && !(of && !ret_of); k++) {
                        const ClusterUnit *f = followers->units[k];

                        ((Cluster *) c)->filed.nodes++; /* the work of a search changes no answer */
                        if (f->unit->placement.data && (!of || strcmp(f->name, of->name) < 0))
                                of = f;
                        else if (data_is_followed(c, f))
                                data_chain_add(chain, &n, f);
                }
        }
        if (ret_of)
                *ret_of = of;
        return of ? of->unit->placement.data : NULL;
}

const char *cluster_data_text(const Cluster *c, const ClusterUnit *u, char buffer[static DATA_TEXT_SIZE]) {
        const ClusterUnit *of;
        const char *data = cluster_unit_data(c, u, &of);

        text_format(buffer, DATA_TEXT_SIZE, "%s%s%s", data && of != u ? of->name : "",
                    data && of != u ? ": " : "", data ?: "Sticky=yes");
        return buffer;
}

bool cluster_unit_is_sticky(const Cluster *c, const ClusterUnit *u) {
        const Placement *p = u->unit ? &u->unit->placement : NULL;

        if (!p || p->global || p->machine_of.n > 0 || p->sticky == STICKY_NO ||
            (c->level > 0 && c->level < KV_LEVEL_SCHEDULING))
                return false;
        return p->sticky == STICKY_YES || (cluster_settings(c)->sticky && !cluster_takes_over(p) &&
                                           !p->machine_id && cluster_unit_data(c, u, NULL));
}

const char *cluster_data_machine(const ClusterUnit *u) {
        const ClusterAssignment *up;

        if (u->data)
                return u->data->machine;
        up = cluster_unit_up(u);
        return up ? up->machine->id : NULL;
}

const char *cluster_bound_machine(const ClusterUnit *u) {
        const char *id = u->sticky ? cluster_data_machine(u) : NULL;

        return u->sticky && u->move && (u->move->force || !id) ? u->move->to : id;
}

const ClusterUnit *cluster_data_holder(const ClusterUnit *u, const ClusterMachine *m) {
        const ClusterUnit *chain[FOLLOWERS_CHAIN_MAX] = { u };
        size_t n = 1;

        for (size_t i = 0; i < n; i++) {
                const Names *leads = chain[i]->unit ? &chain[i]->unit->placement.machine_of : NULL;
                const char *id = cluster_bound_machine(chain[i]);

                if (id && streq(id, m->id))
                        return chain[i];
                for (size_t k = 0; leads && k < leads->n; k++) {
                        const ClusterAssignment *lead = cluster_assignment_on(m, leads->items[k]);

                        if (lead && cluster_assignment_is_active(lead) && n < FOLLOWERS_CHAIN_MAX)
                                chain[n++] = lead->of;
                }
        }
        return NULL;
}

/* Append the options by which another machine takes over: ", MaxSurge=1". */
static void data_append_options(Text *t, const UnitFile *file) {
        static const char *const names[] = { "MaxSurge", "ReplaceAfterSec" };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                const char *value = unit_file_get(file, "X-Fleet", names[i]);

                if (value && *value)
                        text_printf(t, ", %s=%.32s", names[i], value);
        }
}

bool cluster_data_note(const Cluster *c, const ClusterUnit *u, Verdict *ret) {
        const ClusterSettings *settings = cluster_settings(c);
        const Placement *p = u->unit ? &u->unit->placement : NULL;
        const char *data = u->unit ? cluster_unit_data(c, u, NULL) : NULL, *id = cluster_data_machine(u);
        bool takes_over, sticky = cluster_unit_is_sticky(c, u);
        char text[DATA_TEXT_SIZE];
        _cleanup_text_ Text why = {};

        if (sticky && id)
                verdict_set(ret, VERDICT_STAYS_WITH_DATA, "%.64s" VERDICT_NEXT "%s", cluster_name_of(c, id),
                            cluster_data_text(c, u, text));
        if (sticky || !p || p->sticky != STICKY_DEFAULT || p->global || p->machine_of.n > 0 ||
            p->machine_id || (c->level > 0 && c->level < KV_LEVEL_SCHEDULING))
                return sticky && id;
        takes_over = cluster_takes_over(p);
        text_append(&why, data ? cluster_data_text(c, u, text) : "");
        if (takes_over)
                data_append_options(&why, &u->unit->file);
        if (data)
                verdict_set(ret, VERDICT_MAY_LEAVE_DATA, "%s" VERDICT_NEXT "%s", text_chars(&why),
                            takes_over || settings->sticky || settings->not_sticky ?
                                    "" :
                                    ", or fleetctl init --sticky=yes");
        else if (p->host_path)
                verdict_set(ret, VERDICT_PATH_UNKNOWN, "%s", p->host_path);
        return data || p->host_path;
}

const ClusterMachine *cluster_data_newer(const Cluster *c, const ClusterUnit *u) {
        const char *id = cluster_bound_machine(u);
        const ClusterMachine *found = NULL;
        uint64_t begun = u->sticky ? cluster_begun_index(c) : 0;

        if (begun == 0 || (u->data ? u->data_index : u->index) > begun ||
            (u->move && u->move->force && u->move_index > begun))
                return NULL;
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (!(id && streq(m->id, id)) &&
                    (m->reported == REPORT_MISSED || cluster_awaits_report(c, m)) &&
                    !cluster_machine_is_removed(m) && (!found || strcmp(m->id, found->id) < 0))
                        found = m;
        return found;
}

/* -- Kept in the cluster view -- */

static void sticky_update(Cluster *c, ClusterUnit *u) {
        bool sticky = cluster_unit_is_sticky(c, u);

        if (u->sticky == sticky)
                return;
        u->sticky = sticky;
        cluster_update_lists(c, u);
}

/* A unit has the data of its followers, too: one without data, which none follows, changes nothing. */
void cluster_update_leads(Cluster *c, ClusterUnit *u) {
        const ClusterUnit *chain[FOLLOWERS_CHAIN_MAX] = { u };
        size_t n = u->unit->placement.data || data_is_followed(c, u);

        for (size_t i = 0; i < n; i++) {
                const Names *leads = &chain[i]->unit->placement.machine_of;

                c->filed.nodes += leads->n;
                for (size_t k = 0; k < leads->n; k++) {
                        ClusterUnit *lead = cluster_unit(c, leads->items[k]);

                        if (!lead)
                                continue;
                        sticky_update(c, lead);
                        if (lead->unit->placement.machine_of.n > 0)
                                data_chain_add(chain, &n, lead);
                }
        }
}

void cluster_update_sticky(Cluster *c, ClusterUnit *u) {
        sticky_update(c, u);
        if (u->unit)
                cluster_update_leads(c, u);
}

void cluster_update_all_sticky(Cluster *c) {
        for (ClusterUnit *u = c->units; u; u = u->hh.next) {
                sticky_update(c, u);
                if (u->sticky) /* whose record may be of a former lineage */
                        cluster_update_lists(c, u);
        }
}
