/* Search in a table of verbs. */
#include "client/client.h"
#include "client/suggest.h"

const Verb *verb_find(const Verb *v, const char *name) {
        const Verb *found = NULL;
        size_t n = 0;

        for (; v->name; v++) {
                if (streq(v->name, name))
                        return v;
                if (*name && starts_with(v->name, name)) {
                        found = v;
                        n++;
                }
        }
        return n == 1 ? found : NULL;
}

const char *verb_nearest(const Verb *v, const char *name) {
        Suggestion suggestion = { .typed = name };

        for (; v->name; v++)
                suggest_consider(&suggestion, v->name);
        return suggestion.nearest;
}
