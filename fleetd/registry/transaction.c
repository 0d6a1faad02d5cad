#include "fleetd/registry/transaction.h"

#include <errno.h>

void transaction_done(Transaction *t) {
        for (size_t i = 0; i < t->n_strings; i++)
                free(t->strings[i]);
        free(t->strings);
        free(t->checks);
        free(t->writes);
        *t = (Transaction) {};
}

/* Takes 's'; NULL: its allocation failed. */
static KvBytes transaction_hold(Transaction *t, char *s, size_t size) {
        if (!s || GROW(t->strings, t->strings_capacity, t->n_strings + 1) < 0) {
                free(s);
                t->error = -ENOMEM;
                return (KvBytes) {};
        }
        t->strings[t->n_strings++] = s;
        return (KvBytes) { s, size };
}

static KvBytes transaction_hold_key(Transaction *t, LayoutKind key, const char *unit, const char *machine) {
        char path[LAYOUT_KEY_MAX];
        size_t size = strlen(layout_key(path, key, unit, machine));

        return transaction_hold(t, strdup(path), size);
}

void transaction_check(Transaction *t, KvCheckKind kind, uint64_t index, LayoutKind key, const char *unit,
                       const char *machine) {
        KvBytes path = transaction_hold_key(t, key, unit, machine);

        if (t->error < 0 || GROW(t->checks, t->checks_capacity, t->n_checks + 1) < 0) {
                t->error = -ENOMEM;
                return;
        }
        t->checks[t->n_checks++] = (KvCheck) { .kind = kind, .key = path, .index = index };
}

static KvBytes transaction_hold_text(Transaction *t, Text *value) {
        size_t size = 0;
        char *chars = text_take(value, &size);

        return transaction_hold(t, chars, size);
}

void transaction_check_value(Transaction *t, LayoutKind key, const char *unit, const char *machine,
                             Text *value) {
        KvBytes bytes = transaction_hold_text(t, value);

        transaction_check(t, KV_CHECK_VALUE, 0, key, unit, machine);
        if (t->error >= 0)
                t->checks[t->n_checks - 1].value = bytes;
}

void transaction_write(Transaction *t, KvOp op, LayoutKind key, const char *unit, const char *machine,
                       Text *value) {
        KvCommand write = { .op = op, .key = transaction_hold_key(t, key, unit, machine), .internal = true };

        if (value)
                write.value = transaction_hold_text(t, value);
        if (t->error < 0 || GROW(t->writes, t->writes_capacity, t->n_writes + 1) < 0) {
                t->error = -ENOMEM;
                return;
        }
        t->writes[t->n_writes++] = write;
}
