/* The text of a rollout: of an answer of /fleet/v1/rollouts/NAME. */
#pragma once

#include "client/core/client.h"

/* Return whether the rollout is in this state: "rolling", "none" and others. */
bool rollout_is(const JsonValue *answer, const char *state);

/* Append what the instances get: "revision 3", "content 2 (secret db-password)". */
void rollout_append_label(Text *t, const JsonValue *answer);

/* Append unit and machine; "web@1.service" is written as "web@1", and the unit 'head' of the set not at all.
 */
void rollout_append_instance(Text *t, const JsonValue *instance, const char *head);

/* Append the state, and the numbers of instances. */
void rollout_append_summary(Text *t, const JsonValue *answer);

/* Append the commands that a rollout waits for, with that for the cause of a failure; or nothing. */
void rollout_append_next(Text *t, const JsonValue *answer);

/* Append that a text was reverted, and why. */
void rollout_append_reverted(Text *t, const JsonValue *answer);

/* Append that an instance does not follow its template, and the command that lets it follow, by the members
 * "template" and "templateNext" of the answer; nothing if it follows, or has none. */
void rollout_append_left(Text *t, const JsonValue *answer);

/* Print the state, and all instances. */
void rollout_print(const JsonValue *answer);
