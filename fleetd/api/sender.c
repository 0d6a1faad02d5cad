#include "fleetd/api/sender.h"

Sender *sender_new(const Principal *principal, const PolicyFacts *facts) {
        Sender *sender = NEW0(Sender, 1);

        if (!sender)
                return NULL;
        *sender = (Sender) { .refs = 1, .principal = *principal, .facts = *facts };
        (void) principal_text(principal, sender->text);
        right_list_ref(facts->granted);
        return sender;
}

Sender *sender_ref(Sender *sender) {
        sender->refs++;
        return sender;
}

Sender *sender_unref(Sender *sender) {
        if (!sender || --sender->refs > 0)
                return NULL;
        right_list_unref(sender->facts.granted);
        free(sender);
        return NULL;
}

bool sender_may(const Sender *sender, Right right) {
        return policy_allows(&sender->principal, right, (Resource) {}, &sender->facts);
}

bool sender_may_read(const Sender *sender, KvBytes key) {
        return policy_allows(&sender->principal, RIGHT_KEYS_READ, (Resource) { .key = key }, &sender->facts);
}

bool sender_may_write(const Sender *sender, KvBytes key) {
        return policy_allows(&sender->principal, RIGHT_KEYS_WRITE, (Resource) { .key = key }, &sender->facts);
}

bool sender_sees(const Sender *sender, KvBytes key, bool is_dir) {
        return policy_shows(&sender->principal, key, is_dir, &sender->facts);
}

bool sender_sees_all(const Sender *sender) {
        return sender_may_read(sender, kv_string("/"));
}

KvBytes sender_missing(const Sender *sender, KvBytes key) {
        const char *path = key.data;

        for (size_t size = 2; size < key.size; size++) {
                KvBytes part = { path, size };

                if (path[size] == '/' && !sender_sees(sender, part, true))
                        return part;
        }
        return key;
}

/* The rights that a list may grant are its own; the others depend on the principal's row. */
bool sender_keeps(const Sender *now, const Sender *before) {
        for (Right right = RIGHT_STATUS_SEE; right < _RIGHT_MAX; right++)
                if (sender_may(before, right) && !sender_may(now, right))
                        return false;
        return (sender_sees_all(now) || !sender_sees_all(before)) &&
               right_list_covers(now->facts.granted, before->facts.granted) &&
               (!now->facts.is_restricted ||
                (before->facts.is_restricted && prefixes_cover(now->facts.of_host, before->facts.of_host)));
}
