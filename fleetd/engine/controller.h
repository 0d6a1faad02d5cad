/* A controller: on the leader, it writes one step of a feature at a time, as the cluster view demands it.
 * What it remembers ends with the term: the next leader continues from the view. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Control {
        void *self; /* of the component */
        Registry *registry;
        uint64_t term, brake_ms; /* BrakeSec= */
        uint64_t leads_ms;       /* cluster time since which this host leads */
        RegistryDone done;       /* of the step that is written */
        void *userdata;
        uint64_t
                again_ms; /* set by step(): from now until time alone changes its answer; UINT64_MAX: never */
} Control;

typedef struct Controller {
        const char *name;
        /* Write the step that is due. 1: 'done' follows. 0: none is due. Or a negative errno. */
        int (*step)(Control *control);
        /* From KV_LEVEL_UPDATES on, before step(): the unit was planned, after a change of it or of what it
         * depends on. 0 or -ENOMEM. NULL: nothing to do. */
        int (*planned)(const Control *control, const char *unit);
} Controller;

/* Controller.step of drains (drain_write.c). */
int drain_control(Control *control);
