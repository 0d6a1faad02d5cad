/* Units whose target states a command changes, as they are before it, and the wait for those that were
 * changed. */
#pragma once

#include "client/core/listing.h"
#include "client/core/wait.h"

/* Part of the help of verbs that wait. */
#define FOUND_WAITING                                                                                     \
        "fleetctl waits for units that are not global; --timeout, --block-attempts and --no-block limit " \
        "it.\n"                                                                                           \
        "On a terminal each unit, also a global one, has a progress line.\n"

typedef struct Found {
        const char *name; /* borrowed */
        bool exists, global;
        bool is_set, is_slot; /* a template with Replicas=; an instance that has its target state from one:
                                 the leader sets it */
        TargetState desired, current;
        bool as_requested; /* it had the requested target state already */
        bool waits;        /* for a machine, or for one that reports it: its machine may be lost */
        char *reason;      /* of its placement; owned */
        bool has_wait;     /* 'reason' states what it waits for */
        bool held;         /* nothing is started now: after a restore, for example */
        Names machines;    /* IDs: of its assignment; of a global unit, those that report it */
        bool runs;         /* reported as active; a global unit on all machines that report it */
        bool active;       /* reported as active or in transition, on any machine */
        uint64_t
                before_ms; /* 'since' of the reported state, perhaps of an earlier run; 0: none is reported */
} Found;

typedef struct FoundUnits {
        Names names, created; /* 'created': with the requested target state, by this command */
        Names sets;           /* of 'names': templates with Replicas= */
        size_t n_slots;       /* the last ones of 'names': their numbered instances */
        Names differing;      /* of each of 'names': see Submitted */
        Found *items;
        size_t n;

        Names waiting;       /* units that were changed, to wait for */
        Names loaded;        /* of 'waiting': their former target state */
        uint64_t *before_ms; /* of each of 'waiting' */
        Progress *progress;  /* of 'waiting', or NULL */
} FoundUnits;

/* Return whether to wait for a unit. fleet waited for no global unit, and scripts rely on it; a terminal and
 * --wait include global units. */
bool found_waits_for(const Client *c, bool global);
void found_done(FoundUnits *found);
#define _cleanup_found_ _cleanup_(found_done)
/* Read the replicas of a template. 1; 0: it has none, or fleetd is of a version without them. */
int found_read_set(Client *c, const char *template, JsonValue **ret, Error *err);
/* Add the names of the slots of a template between two numbers, at most UNIT_REPLICAS_MAX. 0 or -ENOMEM. */
int found_slots(const char *template, uint64_t first, uint64_t last, Names *ret);
/* Add the numbered instances of the templates with Replicas= among the names, as many as these are to have.
 */
int found_add_slots(Client *c, FoundUnits *found, Error *err);
/* Wait until the leader has created the slots, and has given them the new target states; not with --no-block.
 */
int found_await_slots(Client *c, const FoundUnits *found, Error *err);
void found_set_states(Found *f, const Listing *states);
/* Read all units of found->names, in order, whether they exist or not. */
int found_read(Client *c, FoundUnits *found, bool named, Error *err);
/* Print a message about each argument that is no unit, and read the units among the arguments that exist, in
 * order. The result is that of a verb. */
int found_find(Client *c, char **args, size_t n, FoundUnits *ret, Error *err);
/* Print why a unit does not run yet, and the next step, which the name of the unit completes. */
void found_note_waiting(const Found *f, const char *next);
/* Add a unit that was changed to those to wait for, or print that its change was triggered. */
int found_add_changed(Client *c, FoundUnits *found, const char *name, bool global, uint64_t before_ms);
int found_wait(Client *c, FoundUnits *found, WaitRequest *request, Error *err);
void found_add_change(ApiUnit *changes, size_t *n, const Found *f, TargetState target);
/* Return whether a unit runs that is only to be loaded: the same target state, requested again, stops it. */
bool found_is_triggered(const Found *f, TargetState target);
