/* The parts that the files of test-membership share. */
#pragma once

#include "fleetd/registry/registry.h"

/* Changes the result of kv_state(); NULL: unchanged. */
extern void (*state_seen)(KvState *state);

/* A call of registry_admit() without an answer. */
typedef struct Admission {
        void *waits;
        RegistryDone done;
        uint64_t *ret_id;
        int error; /* of the call itself */
} Admission;

extern Admission admission;
extern const void *forgotten; /* last argument of registry_cancel() */
extern unsigned n_deferred;   /* calls that membership deferred */

/* Run the tests of these files; return the number of failures. */
int membership_leads_tests(void);
int membership_joins_tests(void);
