/* The moves that move and rebalance have requested, and wait for. */
#pragma once

#include "client/core/listing.h"
#include "client/core/operation.h"

typedef struct Moving {
        Client *client;
        Operation *operation;    /* both borrowed */
        const Listing *machines; /* the same */
        char *name;              /* owned */
        Text path;
        JsonValue *state; /* owned: the last answer */
        Text id, from;    /* of the machine to which it moves; name of the one that it leaves */
        bool ended;       /* of rebalance */
} Moving;

void moving_done(Moving *m);
int moving_init(Moving *m, char *unit); /* 0 or -ENOMEM */
/* Request it, with the IDs of machines. 'from' NULL: from any; 'to' NULL: to the best one. */
int moving_request(Moving *m, const char *from, const char *to, Error *err);
/* As OperationType.look, 'userdata' is a Moving. */
int moving_look(void *userdata, Error *err);
