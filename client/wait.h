/* Follows the cluster until what was asked is so: subscribes to fleetd's events, looks, and looks again at
 * whatever an event names. Where events are not to be had it looks four times a second.
 *
 * In a pipe each unit that arrives is a line, as fleet's: "Unit web.service launched on
 * 11111111.../10.0.0.1". On a terminal each unit has a line from the beginning (client/progress.h), which
 * says what it waits for. */
#pragma once

#include "client/client.h"
#include "client/progress.h"

typedef enum WaitGoal {
        WAIT_STATE,   /* the unit's state is 'target' */
        WAIT_RUNNING, /* it is, and then: systemd calls it active, or it has ended as it should */
        WAIT_ENDED, /* it was started, and has ended again, however: by itself, or because somebody stopped it
                     */
        WAIT_STOPPED, /* it is, and then: no systemd calls it active or on its way from there */
        WAIT_GONE,    /* no machine reports anything of it */
} WaitGoal;

typedef struct WaitRequest {
        WaitGoal goal;
        TargetState target;
        const Names *names;
        const uint64_t
                *before_ms; /* of each: 'since' of the state before it was started, 0: none; NULL: of none */
        bool quiet;         /* print nothing but errors */
        Progress *live;     /* borrowed; lines of these units, and perhaps of more; NULL: none */
        bool more;          /* of 'live': this is not all that is done with these units */
        const char *interrupted; /* what an interrupt leaves behind, with %s for the names; NULL: as it
                                    follows from the goal */
} WaitRequest;

/* 0 when it is so for all; a global unit is waited for on all machines that it fits. Else the sentence about
 * the first unit for which it is not: -ETIMEDOUT   --block-attempts are over before its state was 'target'
 *   -ENOEXEC     it is launched, and systemd does not call it active, or says that it failed
 *   -ECANCELED   somebody else wants something else of it by now, or has destroyed it
 *   -EINTR       the person at the terminal does not want to wait: the sentence says what goes on without him
 * or an error of the connection; while fleetd merely answers with errors, the wait goes on. */
int wait_for(Client *c, const WaitRequest *request, Error *err);
