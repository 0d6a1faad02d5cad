/* The view, for its own files. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "units/named.h"

/* A decision of the pass about one unit on one machine. */
typedef struct Decision {
        Named name; /* of the unit */
        const ClusterUnit *unit;
        bool there;
        bool gone;               /* it has stopped, too */
        Resources request, size; /* in the sums of the machine */
        bool is_draft;           /* the unit is not in the cluster view, so that no index finds it */
} Decision;

typedef struct ViewMachine {
        const ClusterMachine *machine;
        const Pairs *metadata; /* borrowed */
        size_t load;
        Sums requested, sized;
        Resources capacity; /* 0: unknown, or sizes do not count */
        uint64_t fullness;  /* with a unit of default size more; 0: unknown */
        Named *decisions;   /* Decision, by the unit's name */
        size_t n_drafts;    /* of them */
} ViewMachine;

struct SchedulerView {
        const Cluster *cluster;
        uint64_t now_ms;
        ViewMachine *machines; /* one allocation; by ClusterMachine.slot */
        size_t n;
        bool has_sizes;        /* a capacity is known, and sizes are in effect */
        Resources least, most; /* capacities */
        Resources median;      /* of the ordinary ones, from its first use on; 0: none is known */
        bool has_median;
        ViewMachine **sorted; /* by fullness, load, then machine ID; from the first selection on */
        bool is_sorted;
        const ClusterMachine **named; /* by name; from the first explanation on */
        bool is_named;
        Named *arrivals; /* the machines of decisions, by unit */
        Named *siblings; /* counters of the templates whose instances are spread, each from its first use on
                          */
        Named *domains;  /* by key of metadata */
        struct {
                const ClusterUnit *of; /* NULL: to be read */
                const Unit *text;      /* of it */
                uint64_t least, *rows; /* by slot */
        } spread;                      /* of the last unit */
        size_t work;                   /* machines, patterns and units examined */
        size_t work_max;               /* 0: no limit */
};

static inline ViewMachine *view_find(const struct SchedulerView *view, const ClusterMachine *m) {
        assert(m->slot < view->n && view->machines[m->slot].machine == m);
        return &view->machines[m->slot];
}

static inline bool view_has(const ViewMachine *v, const char *unit) {
        const Decision *d = named_find(v->decisions, unit);
        const ClusterAssignment *o;

        if (d)
                return d->there;
        o = cluster_assignment_on(v->machine, unit);
        return o && cluster_assignment_is_active(o);
}

/* Set Decision.there, with what follows for the counters. -ENOMEM. */
int siblings_decide(struct SchedulerView *view, const ViewMachine *v, Decision *d, bool there);
void siblings_clear(struct SchedulerView *view);
