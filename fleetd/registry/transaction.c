#include "fleetd/registry/transaction.h"

#include <errno.h>

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
}

void transaction_expire(Transaction *t, uint64_t ttl_ms) {
        if (t->error < 0)
                return;
        t->writes[t->n_writes - 1].has_ttl = true;
        t->writes[t->n_writes - 1].ttl_ms = ttl_ms;
}

void transaction_note(Transaction *t, const Registry *r, const HistoryNote *note) {
        uint8_t body[KV_NOTE_MAX];
        size_t size = history_encode(note, body);
        char *copy;

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

/* Move checks and writes to the begin of 't'. */
static int transaction_prepend(Transaction *t, Transaction *former) {
        for (size_t i = 0; i < t->n_checks; i++) {
                if (GROW(former->checks, former->checks_capacity, former->n_checks + 1) < 0)
                        return -ENOMEM;
                former->checks[former->n_checks++] = t->checks[i];
        }
        for (size_t i = 0; i < t->n_writes; i++) {
                if (GROW(former->writes, former->writes_capacity, former->n_writes + 1) < 0)
                        return -ENOMEM;
                former->writes[former->n_writes++] = t->writes[i];
        }
        return 0;
}

int transaction_send_after(Registry *r, Transaction *former, Transaction *t, RegistryDone done,
                           void *userdata) {
        _cleanup_transaction_ Transaction first = TAKE_STRUCT(*former), last = TAKE_STRUCT(*t);
        KvCommand a = { .op = KV_TXN,
                        .checks = first.checks,
                        .n_checks = first.n_checks,
                        .writes = first.writes,
                        .n_writes = first.n_writes },
                  b = { .op = KV_TXN,
                        .checks = last.checks,
                        .n_checks = last.n_checks,
                        .writes = last.writes,
                        .n_writes = last.n_writes };
        bool fits = kv_transaction_size(&a) + kv_transaction_size(&b) <= KV_COMMAND_MAX &&
                    a.n_checks + a.n_writes + b.n_checks + b.n_writes <= KV_TXN_ITEMS_MAX;

        last.error = MIN(last.error, first.error);
        if (first.n_writes == 0 || last.error < 0 || b.n_checks + b.n_writes > KV_TXN_ITEMS_MAX)
                return transaction_send(r, &last, 0, done, userdata);
        if (!fits)
                return registry_propose_after(r, &first, &last, done, userdata);
        if (transaction_prepend(&last, &first) < 0)
                first.error = -ENOMEM;
        return transaction_send(r, &first, 0, done, userdata);
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

        if (t->error < 0 || t->n_checks + t->n_writes > KV_TXN_ITEMS_MAX) {
                registry_propose_for(r, "");
                return t->error < 0 ? t->error : -E2BIG;
        }
        transaction_drop_notes(&command);
        return registry_propose(r, &command, done, userdata);
}
