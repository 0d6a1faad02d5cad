/* The verbs behind "kv", for it and for its help; and what their files share. */
#pragma once

#include "client/client.h"
#include "units/json.h"

typedef struct KvVerb {
        const char *name, *arguments, *summary;
        int (*run)(Client *c, char **args, size_t n);
} KvVerb;

const KvVerb *kv_verbs(size_t *ret_n);

enum {
        KV_LEVELS_MAX = 200, /* of directories */
        KV_VALUE_READ_MAX =
                1024 *
                1024, /* bytes of a value that are read here; the store has a limit of its own, and says so */
};

int kv_usage(const char *sentence); /* says it; EXIT_USAGE */
void kv_append_key(Text *t, const char *key);
void kv_add_field(Text *form, const char *name, const char *value);
void kv_add_number(Text *form, const char *name, uint64_t value);

/* One request. EXIT_DONE, or an exit status that is said already. With --output=json the answer is printed as
 * it is, and *ret_node stays NULL; else it borrows from *ret_root. */
int kv_request(Client *c, const char *method, const Text *path, const Text *form, JsonValue **ret_root,
               const JsonValue **ret_node);
/* The same, and never printed: 0 and the node; -EREMOTEIO with etcd's code in *ret_code and its words in
 * 'err'; others when there was no answer. *ret_index: the store's. */
int kv_ask(Client *c, const char *method, const Text *path, const Text *form, JsonValue **ret_root,
           const JsonValue **ret_node, uint64_t *ret_index, uint64_t *ret_code, Error *err);

void kv_add_bytes(Text *form, const char *name, const void *bytes, size_t size);

/* -- kv_v1.c -- */

/* A file, "-" for stdin, to its end: 0 and the bytes, with a zero byte behind them; -EFBIG. The caller frees.
 */
int kv_read_stdin(size_t max, char **ret, size_t *ret_size);
int kv_read_file(const char *path, size_t max, char **ret, size_t *ret_size);
/* The key as the store has it: a slash before each part, none doubled, none at the end; "" for the root. */
void kv_append_clean(Text *t, const char *key, bool escaped);
/* The very bytes of a value: 0. Any other answer is -ENODATA: v2 has the words for it. */
int kv_value(Client *c, const char *key, Reply *ret, Error *err);

typedef struct KvListed {
        char *key, *value; /* borrowed from the page */
        size_t key_size, value_size;
        bool dir;
} KvListed;

/* Calls 'each' for 'prefix' and all below it, hidden keys too, page by page; 'parameters' of
 * /fleet/v1/kv/list go along. What 'each' returns below 0 ends it, and is returned. */
int kv_pages(Client *c, const char *prefix, const char *parameters,
             int (*each)(void *userdata, const KvListed *node), void *userdata, Error *err);
int kv_watch_all(Client *c, const char *key);

const char *kv_text_of(const JsonValue *node, const char *name); /* "" if absent */
bool kv_is_dir(const JsonValue *node);

int kv_exec_watch(Client *c, char **args, size_t n); /* kv.c */
int kv_txn(Client *c, char **args, size_t n);        /* kv_v1.c */
int kv_rm(Client *c, char **args, size_t n);         /* kv_rm.c */
int kv_lock(Client *c, char **args, size_t n);       /* kv_lock.c */
int kv_import(Client *c, char **args, size_t n);     /* kv_files.c */
int kv_export(Client *c, char **args, size_t n);
