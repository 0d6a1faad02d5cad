/* The documents "view" and "usage": from answers of the daemon to what the page shows. Pure.
 *
 * All texts are those of the answers, or of the functions by which fleetctl prints them; control characters
 * in them are escaped. No document has texts or options of units, keys, secrets or journals. */
#pragma once

#include "client/core/usage.h"
#include "client/verbs/overview.h"

/* What a "view" is made of. */
typedef struct WebAnswers {
        View view; /* with the last rows of the history */
        Listing units, states;
        JsonValue *rollouts, *reboots; /* NULL: the daemon has none */
        uint64_t now_ms;               /* wall clock when they were read */
        int64_t clock_ms;              /* web_answers_set_clock() */
} WebAnswers;

void web_answers_done(WebAnswers *a);
#define _cleanup_web_answers_ _cleanup_(web_answers_done)

/* Set what the wall clock is ahead of the time of the cluster. The former difference stays if it is about the
 * same, so that equal states give equal documents; 0: there is none. */
void web_answers_set_clock(WebAnswers *a, int64_t former_ms);

/* The members of a document that differ from those of the next one only if the cluster does. 'notice' is the
 * text of the banner; NULL: that of the answers. A view of a daemon that has never answered has NULL
 * answers. */
void web_view_append(Text *t, const WebAnswers *a, const char *notice);

/* A host whose figures are shown. */
typedef struct WebUsage {
        char *id;                  /* owned */
        UsageSample *former, *now; /* owned; NULL: there is none yet */
        Text note;                 /* why there is no newer one; empty: there is */
} WebUsage;

void web_usage_done(WebUsage *u);
/* Add an item of the list "machines" of a document "usage". */
void web_usage_append(Text *t, const WebUsage *u);

/* For other documents: */
void web_add(Text *t, const char *name, const char *value); /* a string, never left out */
void web_add_number(Text *t, const char *name, uint64_t value);
/* Add the last 'max' of the rows that are about a unit or a machine (NULL: any), the newest first. */
void web_add_events(Text *t, JsonValue *const *rows, size_t n, const Listing *machines, const char *machine,
                    size_t max);
/* Return the state of a unit on a machine as lists have it: "active (running)", "failed", "not started". */
void web_append_state(Text *t, const ApiState *s);
