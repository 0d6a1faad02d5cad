/* The verbs behind "kv", for it and for its help; and what their files share. */
#pragma once

#include "client/client.h"
#include "units/json.h"

typedef struct KvVerb {
        const char *name, *arguments, *summary;
        int (*run)(Client *c, char **args, size_t n);
} KvVerb;

const KvVerb *kv_verbs(size_t *ret_n);

enum { KV_LEVELS_MAX = 200 }; /* of directories */

int kv_usage(const char *sentence); /* says it; EXIT_USAGE */
void kv_append_key(Text *t, const char *key);
void kv_add_field(Text *form, const char *name, const char *value);
void kv_add_number(Text *form, const char *name, uint64_t value);

/* One request. EXIT_DONE, or an exit status that is said already. With --output=json the answer is printed as it is, and
 * *ret_node stays NULL; else it borrows from *ret_root. */
int kv_request(Client *c, const char *method, const Text *path, const Text *form, JsonValue **ret_root, const JsonValue **ret_node);
/* The same, and never printed: 0 and the node; -EREMOTEIO with etcd's code in *ret_code and its words in 'err'; others when there was no
 * answer. *ret_index: the store's. */
int kv_ask(Client *c, const char *method, const Text *path, const Text *form, JsonValue **ret_root, const JsonValue **ret_node,
           uint64_t *ret_index, uint64_t *ret_code, Error *err);

const char *kv_text_of(const JsonValue *node, const char *name); /* "" if absent */
bool kv_is_dir(const JsonValue *node);

/* Runs the command, with 'environment' (names and values in turn, NULL at the end; may be NULL) added to ours, to its end. While it runs 'tick' is
 * called every 'tick_ms' (NULL: never); a false from it sends SIGTERM. Interrupts go to the command. Its exit status, 128 and the
 * signal that ended it, or 127 when it cannot be run. */
int kv_run(char **command, const char *const environment[], bool (*tick)(void *userdata), void *userdata, uint64_t tick_ms);

int kv_exec_watch(Client *c, char **args, size_t n); /* kv.c */
int kv_lock(Client *c, char **args, size_t n);       /* kv_lock.c */
int kv_import(Client *c, char **args, size_t n);     /* kv_files.c */
int kv_export(Client *c, char **args, size_t n);
