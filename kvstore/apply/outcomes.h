/* What one input of Raft made, kept until its transactions are committed: results for who proposed, events
 * for who watches. */
#pragma once

#include "kvstore/apply/apply.h"

typedef struct Outcome {
        struct Outcome *next;
        uint64_t number;  /* of the proposal, for a result */
        KvResult *result; /* or: */
        KvEvent event;
        uint8_t bytes[]; /* the event's */
} Outcome;

/* First in, first out; owns what is in it. */
typedef struct Outcomes {
        Outcome *first, **last;
        size_t bytes; /* that they take in memory */
} Outcomes;

void outcomes_init(Outcomes *list);
void outcomes_clear(Outcomes *list);

/* A copy; 0 or -ENOMEM. */
int outcomes_add_result(Outcomes *list, uint64_t number, const KvResult *result);
int outcomes_add_event(Outcomes *list, const KvEvent *event);

/* The oldest, for outcome_free(); NULL: there is none. */
Outcome *outcomes_take(Outcomes *list);
void outcome_free(Outcome *o);

/* All of 'from', behind what is in 'to'. */
void outcomes_move(Outcomes *to, Outcomes *from);
