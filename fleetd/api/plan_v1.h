/* A plan: units as they would be, and where they would be placed. plan_steps.c makes it in steps. Within
 * fleetd/api only. */
#pragma once

#include "fleetd/api/fleet_v1.h"
#include "fleetd/scheduler/filters.h"
#include "fleetd/scheduler/view.h"

enum { PLAN_UNITS_MAX = 1000 };

/* Where a unit is that is to leave its machine. */
typedef struct DraftPosition {
        const ClusterMachine *machine; /* NULL: none */
        char id[MACHINE_ID_SIZE];      /* of it */
        char to[MACHINE_ID_SIZE];      /* that was selected; "": none */
        SchedulerRule rule;            /* that rejects the machine */
        Error unfit;
        size_t n_global; /* of a global unit: instances */
        size_t n_new;    /* of a template: instances of the request with its text that do not exist yet */
        bool stopped;    /* it stops there first, because no machine is free */
        bool moved;
        bool gone; /* from 'machine', in the view */
} DraftPosition;

/* The units as they would be, and a scheduler view that includes them. A new text has the greatest index. */
typedef struct Draft {
        ClusterUnit *units;       /* those of the request, then instances that follow a template of it */
        ClusterUnit *by_name;     /* table of these */
        DraftPosition *positions; /* of the units */
        size_t n, n_given;        /* 'n_given' are of the request */
        size_t n_followed;        /* of these: their instances are added */
        size_t capacity;          /* of the instances, too: their pointers are kept */
        size_t work;              /* beside that of the view and of options: what the sender pays */
        size_t n_options;         /* of the units of the request */
        size_t steps;             /* of unit_check() on them */
        size_t text_size;         /* of the instances */
        size_t instance_options;  /* of their texts */
        bool partial;             /* some instances are not planned: a limit */
        size_t given_work, spent; /* work of the scheduler for the units of the request; for the instances */
        SchedulerView *view;
        const Cluster *cluster;
        ClusterMachine **machines; /* by id */
        size_t n_machines;
        char after[UNIT_NAME_MAX + 1]; /* an instance, or the ID of a machine: the last one; "": none */
} Draft;

void draft_done(Draft *d);
/* Begin the draft of the units of a request. 0 or -ENOMEM. */
int draft_begin(Draft *d, const Cluster *c, const ApiPage *page);
/* Add the next unit of the request, or after them the next instance that gets the drafted text of a template:
 * the text may exclude its machine. 1, 0 after the last one, -EINVAL and a message, or -ENOMEM. */
int draft_add(Draft *d, const ApiPage *page, Error *err);
/* Borrow from the cluster view, which has changed. What was decided so far stays decided. 0 or -ENOMEM. */
int draft_renew(Draft *d, const Cluster *c);
/* Return whether no further unit is planned. The limit of the instances is their own: the units of the
 * request are planned without them, too. */
bool draft_is_exhausted(const Draft *d, size_t i);
/* Find out whether the unit stops because no machine is free for it. */
void draft_find_stopped(Draft *d, size_t i);
/* Plan the unit; 1: call it again. An instance of a drafted template has an entry unless it stays. */
int draft_unit(Draft *d, size_t i, Text *t);
/* Write the rollout of the unit, if it has one; '*open': the list of them was begun. 0 or -ENOMEM. */
int draft_write_rollout_of(const Draft *d, size_t i, bool *open, Text *t);
/* Plan a unit that is on the machine. Return 1 if it leaves, to the machine in 'to' ("": none), 2 if it is to
 * leave and waits. */
int draft_leave(Draft *d, const ClusterMachine *m, const ClusterUnit *u, char to[static MACHINE_ID_SIZE],
                Text *t);
