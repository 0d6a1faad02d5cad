#include "fleetd/registry/transaction.h"

#include "fleetd/registry/kinds.h"

void transaction_done(Transaction *t) {
        names_done(&t->strings);
        free(t->checks);
        free(t->writes);
        *t = (Transaction) {};
}

/* Keys and values are text: they contain no zero byte. */
static KvBytes transaction_copy(Transaction *t, KvBytes bytes) {
        if (names_add(&t->strings, bytes.data, bytes.size) < 0) {
                t->error = -ENOMEM;
                return (KvBytes) {};
        }
        return kv_string(t->strings.items[t->strings.n - 1]);
}

static KvBytes transaction_key(Transaction *t, LayoutKind key, const char *unit, const char *machine) {
        char path[LAYOUT_KEY_MAX];

        return transaction_copy(t, kv_string(layout_key(path, key, unit, machine)));
}

KvBytes transaction_text(Transaction *t, const Text *text) {
        t->error = MIN(t->error, text->error);
        return (KvBytes) { text->chars, text->size };
}

void transaction_check(Transaction *t, KvCheckKind kind, uint64_t index, LayoutKind key, const char *unit,
                       const char *machine) {
        KvBytes path = transaction_key(t, key, unit, machine);

        if (GROW(t->checks, t->checks_capacity, t->n_checks + 1) < 0) {
                t->error = -ENOMEM;
                return;
        }
        t->checks[t->n_checks++] = (KvCheck) { .kind = kind, .key = path, .index = index };
}

void transaction_check_index(Transaction *t, uint64_t index, LayoutKind key, const char *unit,
                             const char *machine) {
        transaction_check(t, index > 0 ? KV_CHECK_MODIFIED : KV_CHECK_ABSENT, index, key, unit, machine);
}

void transaction_expect(Transaction *t, uint64_t index, LayoutKind key, const char *unit,
                        const char *machine) {
        if (index > 0)
                transaction_check(t, KV_CHECK_MODIFIED, index, key, unit, machine);
}

static int transaction_on_node(void *userdata, const KvNode *node) {
        *(uint64_t *) userdata = node->modified;
        return 0;
}

uint64_t transaction_key_index(Transaction *t, Registry *r, LayoutKind key, const char *unit,
                               const char *machine) {
        char path[LAYOUT_KEY_MAX];
        uint64_t index = 0;
        int e;

        e = kv_local_get(registry_store(r), kv_string(layout_key(path, key, unit, machine)),
                         transaction_on_node, &index);
        if (e < 0 && e != -ENOENT)
                t->error = e;
        return index;
}

void transaction_check_value(Transaction *t, LayoutKind key, const char *unit, const char *machine,
                             KvBytes value) {
        value = transaction_copy(t, value);
        transaction_check(t, KV_CHECK_VALUE, 0, key, unit, machine);
        if (t->error >= 0)
                t->checks[t->n_checks - 1].value = value;
}

void transaction_write(Transaction *t, KvOp op, LayoutKind key, const char *unit, const char *machine,
                       KvBytes value) {
        KvCommand write = { .op = op, .key = transaction_key(t, key, unit, machine), .internal = true };

        if (value.data)
                write.value = transaction_copy(t, value);
        if (GROW(t->writes, t->writes_capacity, t->n_writes + 1) < 0) {
                t->error = -ENOMEM;
                return;
        }
        t->writes[t->n_writes++] = write;
        if (op != KV_DELETE)
                t->level = MAX(t->level, kinds[key]->level);
}

void transaction_put(Transaction *t, LayoutKind key, const char *unit, const char *machine,
                     const void *record) {
        _cleanup_text_ Text value = {};

        if (record)
                json_record_write(&value, kinds[key]->record, record);
        transaction_write(t, record ? KV_SET : KV_DELETE, key, unit, machine, transaction_text(t, &value));
}

void transaction_delete(Transaction *t, LayoutKind key, const char *unit, const char *machine) {
        transaction_put(t, key, unit, machine, NULL);
}

void transaction_expire(Transaction *t, uint64_t ttl_ms) {
        if (t->error < 0)
                return;
        t->writes[t->n_writes - 1].has_ttl = true;
        t->writes[t->n_writes - 1].ttl_ms = ttl_ms;
}

static bool transaction_is_coded(Transaction *t, const Registry *r) {
        KvState state;

        if (t->coded == 0) {
                kv_state(registry_store(r), &state);
                t->coded = state.level >= KV_LEVEL_VERDICTS && !registry_is_codeless(r) ? 1 : -1;
        }
        return t->coded > 0;
}

void transaction_say_former(Transaction *t, const Registry *r, Verdict *v) {
        _cleanup_text_ Text message = {};

        if (transaction_is_coded(t, r))
                return;
        verdict_append(&message, v);
        verdict_say(v, VERDICT_SAID, text_chars(&message));
        t->error = MIN(t->error, message.error);
}

void transaction_note(Transaction *t, const Registry *r, const HistoryNote *note) {
        uint8_t body[KV_NOTE_MAX];
        char *copy;
        size_t size = history_encode(note, transaction_is_coded(t, r), body);

        if (t->error < 0 || t->n_notes == NOTES_MAX)
                return;
        copy = malloc(size);
        if (!copy || GROW(t->strings.items, t->strings.capacity, t->strings.n + 1) < 0) {
                free(copy);
                t->error = -ENOMEM;
                return;
        }
        t->strings.items[t->strings.n++] = memcpy(copy, body, size); /* not terminated */
        t->n_notes++;
        t->writes[t->n_writes - 1].note = (KvNote) { registry_wall_ms(r), { copy, size } };
}

/* A change must not fail because of its rows in the history. */
static void transaction_drop_notes(const KvCommand *command) {
        size_t size = kv_transaction_size(command);

        for (size_t i = command->n_writes; i > 0 && size > KV_COMMAND_MAX; i--) {
                KvNote *note = &command->writes[i - 1].note;

                size -= note->body.size > 0 ? note->body.size + 10 : 0;
                *note = (KvNote) {};
        }
}

/* Return why the transaction cannot be sent: its own error, its size, or the feature level of the cluster. */
static int transaction_error(const Registry *r, const Transaction *t) {
        KvState state = {};

        if (t->error < 0)
                return t->error;
        if (t->level > KV_LEVEL_FIRST)
                kv_state(registry_store(r), &state);
        if (state.level > 0 && state.level < t->level)
                return -EOPNOTSUPP;
        return t->n_checks + t->n_writes > KV_TXN_ITEMS_MAX ? -E2BIG : 0;
}

int transaction_send(Registry *r, const Transaction *t, uint64_t term, RegistryDone done, void *userdata) {
        const KvCommand command = {
                .op = KV_TXN,
                .internal = true,
                .later = t->later,
                .term = term,
                .checks = t->checks,
                .n_checks = t->n_checks,
                .writes = t->writes,
                .n_writes = t->n_writes,
        };
        int e = transaction_error(r, t);

        if (e < 0) {
                registry_propose_for(r, "");
                return e;
        }
        transaction_drop_notes(&command);
        return registry_propose(r, &command, done, userdata);
}

/* -- A transaction after another one -- */

enum { PART_WRITES_MAX = 1000 };

typedef struct Parts {
        Transaction former, last;
        size_t sent; /* writes of 'former' */
        bool ends;   /* 'last' was sent */
} Parts;

static void parts_free(void *userdata) {
        Parts *parts = userdata;

        transaction_done(&parts->former);
        transaction_done(&parts->last);
        free(parts);
}

/* Return a part of 'former', or 'last' after it. */
static bool parts_next(void *userdata, KvCommand *ret) {
        Parts *parts = userdata;
        const Transaction *t = parts->sent < parts->former.n_writes ? &parts->former : &parts->last;

        if (parts->ends)
                return false;
        parts->ends = t == &parts->last;
        ret->checks = parts->ends ? t->checks : t->checks + parts->sent;
        ret->writes = parts->ends ? t->writes : t->writes + parts->sent;
        ret->n_checks = t->n_checks;
        ret->n_writes = t->n_writes;
        if (parts->ends)
                return true;
        ret->n_checks = ret->n_writes = MIN(t->n_writes - parts->sent, (size_t) PART_WRITES_MAX);
        while (ret->n_writes > 1 && kv_transaction_size(ret) > KV_COMMAND_MAX)
                ret->n_checks = ret->n_writes = ret->n_writes / 2;
        parts->sent += ret->n_writes;
        return true;
}

static int transaction_send_parts(Registry *r, Transaction *former, Transaction *last, RegistryDone done,
                                  void *userdata) {
        Parts *parts = NEW0(Parts, 1);

        if (!parts) {
                registry_propose_for(r, "");
                return -ENOMEM;
        }
        parts->former = TAKE_STRUCT(*former);
        parts->last = TAKE_STRUCT(*last);
        return registry_propose_sequence(r, &(RegistrySequence) { parts_next, parts_free, parts }, done,
                                         userdata);
}

/* Move checks and writes to the end of 'to', which keeps the strings of 'from' alive no longer than 'from'.
 */
static int transaction_append(Transaction *to, const Transaction *from) {
        if (GROW(to->checks, to->checks_capacity, to->n_checks + from->n_checks) < 0 ||
            GROW(to->writes, to->writes_capacity, to->n_writes + from->n_writes) < 0)
                return -ENOMEM;
        to->level = MAX(to->level, from->level);
        for (size_t i = 0; i < from->n_checks; i++)
                to->checks[to->n_checks++] = from->checks[i];
        for (size_t i = 0; i < from->n_writes; i++)
                to->writes[to->n_writes++] = from->writes[i];
        return 0;
}

size_t transaction_size(const Transaction *t) {
        return kv_transaction_size(&(KvCommand) { .op = KV_TXN,
                                                  .checks = t->checks,
                                                  .n_checks = t->n_checks,
                                                  .writes = t->writes,
                                                  .n_writes = t->n_writes });
}

bool transaction_fits(Transaction *t, const Transaction *before) {
        if (t->error < 0 ||
            (transaction_size(t) <= KV_COMMAND_MAX && t->n_checks + t->n_writes <= KV_TXN_ITEMS_MAX))
                return true;
        t->n_checks = before->n_checks;
        t->n_writes = before->n_writes;
        return false;
}

int transaction_send_after(Registry *r, Transaction *former, Transaction *t, RegistryDone done,
                           void *userdata) {
        _cleanup_transaction_ Transaction first = TAKE_STRUCT(*former), last = TAKE_STRUCT(*t);
        size_t n = last.n_checks + last.n_writes;

        last.error = MIN(last.error, first.error);
        if (first.n_writes == 0 || last.error < 0 || n > KV_TXN_ITEMS_MAX)
                return transaction_send(r, &last, 0, done, userdata);
        if (transaction_size(&first) + transaction_size(&last) > KV_COMMAND_MAX ||
            n + first.n_checks + first.n_writes > KV_TXN_ITEMS_MAX)
                return transaction_send_parts(r, &first, &last, done, userdata);
        last.error = transaction_append(&last, &first);
        return transaction_send(r, &last, 0, done, userdata);
}
