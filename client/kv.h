/* The verbs behind "kv", for it and for its help. */
#pragma once

#include "client/client.h"

typedef struct KvVerb {
        const char *name, *arguments, *summary;
        int (*run)(Client *c, char **args, size_t n);
} KvVerb;

const KvVerb *kv_verbs(size_t *ret_n);
