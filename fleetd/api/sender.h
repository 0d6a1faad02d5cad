/* Senders of requests: a principal, and what is stated about it, as they are when a request arrives. A sender
 * is immutable and shared; when cluster or settings change, the requests that last get another one. */
#pragma once

#include "fleetd/registry/policy.h"

typedef struct Sender {
        unsigned refs;
        Principal principal;
        PolicyFacts facts;
        char text[PRINCIPAL_TEXT_SIZE]; /* of the principal */
} Sender;

/* Copy both; the facts' lists get references of their own. NULL without memory. */
Sender *sender_new(const Principal *principal, const PolicyFacts *facts);
Sender *sender_ref(Sender *sender);
Sender *sender_unref(Sender *sender); /* NULL allowed; returns NULL */
DEFINE_CLEANUP(Sender *, sender_unref)

/* Return whether the sender has a right to the cluster as a whole, or to at least one key. */
bool sender_may(const Sender *sender, Right right);
bool sender_may_read(const Sender *sender, KvBytes key);
bool sender_may_write(const Sender *sender, KvBytes key);
/* Return whether the sender may know that the node exists (policy_shows()). */
bool sender_sees(const Sender *sender, KvBytes key, bool is_dir);
/* The same of all users' keys at once. */
bool sender_sees_all(const Sender *sender);
/* Return the first path on the way to 'key' of which the sender knows nothing: what would be missing in a
 * tree without the keys that it may not see. */
KvBytes sender_missing(const Sender *sender, KvBytes key);

/* Return whether 'now' has all rights that 'before', the same principal, had. */
bool sender_keeps(const Sender *now, const Sender *before);
