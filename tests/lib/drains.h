/* Machines that are cordoned or drained, in a cluster view. */
#pragma once

#include "base/sizes.h"
#include "fleetd/engine/drain.h"
#include "tests/lib/plans.h"

/* Set the maintenance of a machine; 'more': further members, each followed by a comma. 'mode' NULL: none. */
static inline void maintain(ClusterView *p, const char *machine, const char *mode, const char *more) {
        char id[MACHINE_ID_SIZE], key[128], value[256];

        snprintf(key, sizeof(key), "/_fleet/machine/%s/maintenance", cluster_view_id(id, machine));
        if (!mode) {
                cluster_view_remove(p, key);
                return;
        }
        snprintf(value, sizeof(value), "{%s\"mode\":\"%s\",\"since\":1}", more, mode);
        cluster_view_put(p, key, value);
}

static inline DrainStep step_of(ClusterView *p, const char *machine) {
        char id[MACHINE_ID_SIZE];

        return drain_step(&p->cluster, cluster_machine(&p->cluster, cluster_view_id(id, machine)));
}

static inline void three_machines(ClusterView *p) {
        two_machines(p);
        cluster_view_machine(p, "C", "", PRESENCE_UP);
}

/* Return how often 'word' occurs. */
static inline size_t count_of(const char *text, const char *word) {
        size_t n = 0;

        while ((text = strstr(text, word))) {
                text += strlen(word);
                n++;
        }
        return n;
}

static inline void put_units(ClusterView *p, const char *machine, const char *prefix, int n) {
        for (int i = 0; i < n; i++) {
                char name[32];

                snprintf(name, sizeof(name), "%s%02d.service", prefix, i);
                cluster_view_unit(p, name, "", TARGET_LAUNCHED);
                run_on(p, machine, name);
        }
}

/* The unit has ended there: its agent deletes both keys. */
static inline void has_ended(ClusterView *p, const char *machine, const char *unit) {
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX], name[UNIT_NAME_MAX + 1];

        snprintf(name, sizeof(name), "%s", unit);
        cluster_view_id(id, machine);
        if (cluster_state(&p->cluster, id, name))
                cluster_view_remove(p, layout_key(key, LAYOUT_STATE, name, id));
        cluster_view_remove(p, layout_key(key, LAYOUT_ASSIGNMENT, name, id));
}
