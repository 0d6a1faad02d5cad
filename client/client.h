/* What the verbs share: options, the connection, exit statuses, and the words for errors. */
#pragma once

#include "client/connection.h"
#include "client/options.h"
#include "units/api_json.h"

enum {
        EXIT_DONE = 0,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_ABSENT = 4, /* no such unit: systemctl's */
        EXIT_KV = 4,     /* a key that is not there, a comparison that failed: etcdctl's */
};

typedef struct Client {
        Options options;
        Connection *connection; /* owned */
        struct Tunnel *tunnel;  /* owned; NULL without --tunnel */
} Client;

/* Are both streams of output a terminal? Then fleet's words for scripts give way to plain ones. */
bool client_talks_to_people(void);

/* Says why, on stderr. What fleetd answered (-EREMOTEIO), and what was asked in vain (-ENOENT, -EINVAL), has
 * fleet's words before it, from 'format': "Error creating units: googleapi: ..."; all else is "fleetctl:
 * SENTENCE". Returns EXIT_FAILED. */
int client_fail(int r, const Error *err, const char *format, ...) _printf_(3, 4);

/* "fleetctl: SENTENCE" on stderr, of what hosts and files say, too: in one line, and no terminal is driven by
 * it. */
void client_note(const char *format, ...) _printf_(1, 2);

/* All units, states or machines, however many pages they come in. Strings and files borrow from 'pages'. */
typedef struct Listing {
        ApiPage *pages;
        size_t n_pages, capacity;
        ApiUnit *units; /* the array that is there depends on what was asked for */
        ApiState *states;
        ApiMachine *machines;
        size_t n;
} Listing;

void listing_done(Listing *l);
#define _cleanup_listing_ _cleanup_(listing_done)

int client_units(Client *c, Listing *ret, Error *err);
int client_states(Client *c, const char *unit, Listing *ret, Error *err); /* 'unit' NULL: of all */
int client_machines(Client *c, Listing *ret, Error *err);
int client_all_machines(Client *c, Listing *ret, Error *err); /* those that are lost or gone, too */

const ApiMachine *listing_machine(const Listing *machines,
                                  const char *id); /* NULL if it is not there; borrowed */

/* 1 and the unit, or 0 if there is none. 'global' says it of any unit, here and in lists, also where the
 * daemon does not. */
int client_unit(Client *c, const char *name, ApiUnit *ret, Error *err);

/* Makes or replaces units, or says what they are to be: one request and one transaction for many, all or
 * nothing, as far as they fit into one (200 units, 100 KiB). Of each unit count name, text, desired state
 * ('inactive' where there is none and the text is new), 'keep', and what is expected of it. */
int client_change(Client *c, const ApiUnit *units, size_t n, Error *err);
/* Whether 'r' and 'err', of a request, say that the daemon or the cluster could not do it now: the same
 * request may succeed later. */
bool client_may_retry(int r, const Error *err);
/* Destroy units, as client_change() changes them. Call 'done' for each, with 0 or why it failed (-EREMOTEIO
 * and the daemon's words); a unit that is gone already is destroyed. 0, or the first negative that 'done'
 * returned. */
int client_destroy_all(Client *c, const Names *names,
                       int (*done)(void *userdata, const char *name, int r, const Error *err),
                       void *userdata);
int client_set_state(Client *c, const char *name, TargetState state, Error *err); /* of one */

/* "11111111.../10.0.0.1", as fleet showed machines, or the whole id; without the address if the machine is
 * unknown. */
void append_legend(Text *t, const Listing *machines, const char *id, bool full);

/* The same for people: the name, or the beginning of the id where there is none. */
void append_machine_name(Text *t, const Listing *machines, const char *id);

bool stdout_is_terminal(void);
bool client_says_yes(void); /* what a person types who was asked [y/N] */
