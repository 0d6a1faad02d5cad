#include "units/lists.h"

#include "base/text.h"

void names_done(Names *names) {
        for (size_t i = 0; i < names->n; i++)
                free(names->items[i]);
        free(names->items);
        *names = (Names) {};
}

int names_add(Names *names, const char *name, size_t size) {
        _cleanup_free_ char *copy = strndup(name, size);

        if (!copy || GROW(names->items, names->capacity, names->n + 1) < 0)
                return -ENOMEM;

        names->items[names->n++] = TAKE_PTR(copy);
        return 0;
}

void names_cut(Names *names, size_t n) {
        while (names->n > n)
                free(names->items[--names->n]);
}

/* Return the bytes of the separator at 's'; 0: none is there. */
static size_t names_separator(const char *s) {
        if (s[0] == '\\' && s[1] == '\n')
                return 2;
        return *s == ' ' || *s == '\t';
}

/* Append the word at *s, without its quotes, and advance *s past it. */
static int names_append_word(const char **s, Text *t) {
        const char *p = *s;
        char quote = 0;

        for (; *p && (quote || names_separator(p) == 0); p++) {
                if (*p == quote)
                        quote = 0;
                else if (!quote && (*p == '"' || *p == '\''))
                        quote = *p;
                else if (*p == '\\' && quote != '\'' && p[1])
                        text_append_char(t, *++p);
                else
                        text_append_char(t, *p);
        }
        *s = p;
        return quote ? -EINVAL : t->error;
}

int names_split(const char *value, Names *ret) {
        _cleanup_names_ Names words = {};
        _cleanup_text_ Text t = {};
        size_t n;

        for (;;) {
                while ((n = names_separator(value)) > 0)
                        value += n;
                if (!*value)
                        break;
                text_clear(&t);
                text_append(&t, "");
                TRY(names_append_word(&value, &t));
                TRY(names_add(&words, t.chars, t.size));
        }
        if (words.n == 0)
                return -EINVAL;
        *ret = TAKE_STRUCT(words);
        return 0;
}

bool names_have(const Names *names, const char *name) {
        for (size_t i = 0; i < names->n; i++)
                if (streq(names->items[i], name))
                        return true;
        return false;
}

bool names_equal(const Names *a, const Names *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (!streq(a->items[i], b->items[i]))
                        return false;
        return true;
}

static void pair_done(Pair *pair) {
        free(pair->key);
        free(pair->value);
}

void pairs_done(Pairs *pairs) {
        for (size_t i = 0; i < pairs->n; i++)
                pair_done(&pairs->items[i]);
        free(pairs->items);
        *pairs = (Pairs) {};
}

/* Return the place of the first pair that does not sort before (key, value). */
static size_t pairs_place(const Pairs *pairs, const char *key, const char *value) {
        size_t low = 0, high = pairs->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int c = strcmp(pairs->items[middle].key, key);

                if (c == 0)
                        c = strcmp(pairs->items[middle].value, value);
                if (c < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

int pairs_add(Pairs *pairs, const char *key, const char *value) {
        size_t place = pairs_place(pairs, key, value);
        _cleanup_free_ char *k = NULL, *v = NULL;

        if (place < pairs->n && streq(pairs->items[place].key, key) &&
            streq(pairs->items[place].value, value))
                return 0;

        k = strdup(key);
        v = strdup(value);
        if (!k || !v || GROW(pairs->items, pairs->capacity, pairs->n + 1) < 0)
                return -ENOMEM;

        memmove(pairs->items + place + 1, pairs->items + place, (pairs->n - place) * sizeof(Pair));
        pairs->items[place] = (Pair) { .key = TAKE_PTR(k), .value = TAKE_PTR(v) };
        pairs->n++;
        return 0;
}

int pairs_set(Pairs *pairs, const char *key, const char *value) {
        size_t kept = 0;

        /* Add first: without memory the old value stays. */
        if (value && pairs_add(pairs, key, value) < 0)
                return -ENOMEM;

        for (size_t i = 0; i < pairs->n; i++)
                if (streq(pairs->items[i].key, key) && !(value && streq(pairs->items[i].value, value)))
                        pair_done(&pairs->items[i]);
                else
                        pairs->items[kept++] = pairs->items[i];
        pairs->n = kept;
        return 0;
}

int pairs_copy(const Pairs *from, Pairs *ret) {
        _cleanup_pairs_ Pairs copy = {};

        for (size_t i = 0; i < from->n; i++)
                if (pairs_add(&copy, from->items[i].key, from->items[i].value) < 0)
                        return -ENOMEM;

        *ret = TAKE_STRUCT(copy);
        return 0;
}

bool pairs_equal(const Pairs *a, const Pairs *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (!streq(a->items[i].key, b->items[i].key) || !streq(a->items[i].value, b->items[i].value))
                        return false;
        return true;
}

const char *pairs_get(const Pairs *pairs, const char *key) {
        size_t place = pairs_place(pairs, key, "");

        return place < pairs->n && streq(pairs->items[place].key, key) ? pairs->items[place].value : NULL;
}
