/* The verbs below "kv", and the requests that their files share. */
#pragma once

#include "client/core/client.h"

enum {
        KV_LEVELS_MAX = 200,             /* of directories */
        KV_VALUE_READ_MAX = 1024 * 1024, /* bytes of a value that is read here; the store has its own limit */
};

/* -- kv_request.c: the v2 API -- */

typedef struct KvRequest {
        const char *method;
        Text path;
        Text form; /* empty: no body */

        /* The answer to the last kv_send() or kv_run(): */
        JsonValue *root;       /* owned */
        const JsonValue *node; /* borrows from 'root'; NULL: printed */
        uint64_t index;        /* of the store */
        uint64_t code;         /* of etcd, for an error answer; 0: none */
        bool rejected;         /* the error answer is about the request: kv_is_rejected() */
} KvRequest;

void kv_request_done(KvRequest *q);
#define _cleanup_kv_request_ _cleanup_(kv_request_done)

typedef struct EtcdError {
        JsonValue *root; /* owned */
        uint64_t code, index;
        const char *message, *cause; /* borrowed from 'root' */
} EtcdError;

/* Read {"errorCode":100,"message":"Key not found","cause":"/a","index":17}; -EBADMSG for any other answer.
 * The caller frees *ret, also after an error. */
int kv_error_read(const Reply *reply, EtcdError *ret);
void kv_error_done(EtcdError *e);

/* Append the path of a key, or a field of the form. */
void kv_append_key(Text *t, const char *key);
void kv_add_field(Text *form, const char *name, const char *value);
void kv_add_bytes(Text *form, const char *name, const void *bytes, size_t size);
void kv_add_number(Text *form, const char *name, uint64_t value);

/* Send a request. An error answer is -EREMOTEIO (-EBUSY for status 503) with etcd's code in q->code and its
 * message in 'err'. Other errors: no answer. */
int kv_send(Client *c, KvRequest *q, Error *err);

/* Return whether the store rejected a request (EXIT_KV), from the status of its error answer. Others are
 * about the daemon: it has no leader, or is busy. */
bool kv_is_rejected(long status);

/* Print an error answer like etcdctl: "Error:  100: Key not found (/a) [17]"; and the right that is missing.
 * Return its exit status; *ret_code: its number, or unchanged. */
int kv_fail_answer(const Reply *reply, const char *method, const char *path, uint64_t *ret_code);

/* Send a request for a verb, with the result of a verb. With --output=json print the answer. */
int kv_run(Client *c, KvRequest *q, Error *err);

/* -- kv_v1.c: the fleet API -- */

/* Read a file, "-" for stdin, to its end. The bytes are terminated; the caller frees them. -EFBIG above
 * 'max'. */
int kv_read_stdin(size_t max, char **ret, size_t *ret_size);
int kv_read_file(const char *path, size_t max, char **ret, size_t *ret_size);

/* Append the key as stored: one slash before each part, none at the end; "" for the root. */
void kv_append_clean(Text *t, const char *key, bool escaped);

typedef struct KvListed {
        char *key, *value; /* owned by the page; terminated */
        size_t key_size, value_size;
        uint64_t modified; /* index of its last change */
        uint64_t ttl;      /* s; 0: none */
        bool dir;
} KvListed;

void kv_listed_done(KvListed *l);
#define _cleanup_kv_listed_ _cleanup_(kv_listed_done)

/* Read a node of an answer into an empty one. */
int kv_listed_read(const JsonValue *node, KvListed *ret, Error *err);

bool kv_is_hidden(const KvListed *node, size_t base_size); /* by a part of its key after 'base_size' bytes */

/* Call 'each' for 'prefix' and all keys below, also hidden ones, page by page. 'parameters' are those of
 * /fleet/v1/kv/list. A negative result of 'each' ends the loop and is returned. */
int kv_pages(Client *c, const char *prefix, const char *parameters,
             int (*each)(void *userdata, const KvListed *node), void *userdata, Error *err);
int kv_watch_all(Client *c, const char *key, Error *err);

/* Write nodes as JSON, as kv export does, also hidden keys and those of a file of any size. 'next' fills in
 * the next node, in the order of the tree, and returns 1; 0 after the last one. Its strings are borrowed. */
int kv_export_nodes(int (*next)(void *userdata, KvListed *ret), void *userdata, int fd, Error *err);

/* Call 'each' for the keys of such a file: paths are relative to the root, without their first slash. The
 * file has one key on each line, so that its size is not limited by memory. */
int kv_import_lines(FILE *file, int (*each)(void *userdata, const KvListed *node, Error *err), void *userdata,
                    Error *err);

/* Set a key, or create a directory, at a path below 'base' without a first slash; without 'replace' it must
 * not exist. The result is that of kv_send(). */
int kv_put(Client *c, const char *base, const KvListed *node, bool replace, KvRequest *request, Error *err);

extern const Verb verb_kv_get, verb_kv_set, verb_kv_mk, verb_kv_ls, verb_kv_rm, verb_kv_watch,
        verb_kv_exec_watch, verb_kv_lock, verb_kv_txn, verb_kv_export, verb_kv_import;
