/* A controller: on the leader, it writes one step of a feature at a time, as the cluster view demands it. It
 * keeps no memory, so that the next leader continues. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Control {
        Registry *registry;
        uint64_t term, brake_ms; /* BrakeSec= */
        RegistryDone done;       /* of the step that is written */
        void *userdata;
        uint64_t
                again_ms; /* set by step(): from now until time alone changes its answer; UINT64_MAX: never */
} Control;

typedef struct Controller {
        const char *name;
        /* Write the step that is due. 1: 'done' follows. 0: none is due. Or a negative errno. */
        int (*step)(Control *control);
} Controller;

/* Controller.step of drains (drain_write.c). */
int drain_control(Control *control);
