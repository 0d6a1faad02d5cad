/* Reads of users' keys by a host without a replica. A read is sent again to the next replica, unless a part
 * of a list was delivered already. */
#include "kvstore/remote_internal.h"

struct RemoteRequest {
        Remote *remote;
        RemoteRead read; /* its keys are below */
        uint64_t due_ms;
        bool sent, begun; /* a list has delivered its first part */
        KvGet *get;       /* or a list: */
        const KvListOps *ops;
        void *userdata;
        LIST_ENTRY(RemoteRequest) requests;
        char keys[];
};

static void request_free(RemoteRequest *q) {
        LIST_REMOVE(q, requests);
        if (q->ops)
                q->ops->free(q->userdata);
        free(q);
}

/* Call 'done', and free it. */
static void request_finish(RemoteRequest *q, int result, const KvFound *found) {
        KvGet *get = q->get;

        if (!get) {
                q->ops->done(q->userdata, result);
                request_free(q);
                return;
        }
        request_free(q);
        get->request = NULL;
        get->done(get->userdata, result, found);
}

static void request_send(RemoteRequest *q) {
        _cleanup_writer_ Writer w = {};

        q->read.number = ++q->remote->number;
        q->read.bound = q->remote->bound;
        remote_read_write(&q->read, &w);
        q->sent = remote_send(q->remote, PEER_READ, &w) == 0;
}

static RemoteRequest *request_new(Remote *r, const RemoteRead *read, uint64_t wait_ms) {
        RemoteRequest *q = calloc(1, sizeof(*q) + read->key.size + read->after.size);
        char *at;

        if (!q)
                return NULL;
        *q = (RemoteRequest) { .remote = r, .read = *read, .due_ms = loop_now_ms(r->loop) + wait_ms };
        at = q->keys;
        kv_bytes_place(&at, &q->read.key);
        kv_bytes_place(&at, &q->read.after);
        LIST_INSERT_HEAD(&r->requests, q, requests);
        return q;
}

int remote_get(Remote *r, KvGet *get, RemoteRequest **ret) {
        RemoteRequest *q = request_new(r, &(RemoteRead) { .kind = REMOTE_GET, .key = get->key },
                                       REMOTE_WAIT_MS);

        if (!q)
                return -ENOMEM;
        q->get = get;
        request_send(q);
        remote_keep_time(r);
        *ret = q;
        return 0;
}

int remote_list(Remote *r, const KvRange *range, const KvListOps *ops, void *userdata, RemoteRequest **ret) {
        RemoteRequest *q = request_new(r,
                                       &(RemoteRead) { .kind = REMOTE_LIST,
                                                       .recursive = range->recursive,
                                                       .without_key = range->without_key,
                                                       .key = range->key,
                                                       .after = range->after },
                                       REMOTE_LIST_MS);

        if (!q)
                return -ENOMEM;
        q->ops = ops;
        q->userdata = userdata;
        ops->grow(userdata);
        request_send(q);
        remote_keep_time(r);
        *ret = q;
        return 0;
}

void remote_cancel(RemoteRequest *q) {
        request_free(q);
}

/* -- Answers -- */

/* Set the node at the key: > 0 if there is one. */
static int request_node(RemoteRequest *q, RemoteFound *answer, KvNode *ret) {
        if (answer->error == 0 && q->read.key.size == 1 && !q->read.without_key) {
                *ret = (KvNode) { .key = q->read.key, .dir = true };
                return 1;
        }
        if (!answer->has_node)
                return 0;
        return remote_next_node(answer, ret) > 0 ? 1 : -EBADMSG;
}

static void request_got(RemoteRequest *q, RemoteFound *answer) {
        KvFound found = { .index = answer->index,
                          .error = answer->error,
                          .missing = answer->missing,
                          .is_file = answer->is_file };
        KvNode node;
        int r;

        if (answer->error < 0 && answer->error != -ENOENT) {
                request_finish(q, answer->error, NULL);
                return;
        }
        r = request_node(q, answer, &node);
        if (r < 0) {
                request_finish(q, r, NULL);
                return;
        }
        if (r > 0)
                found.node = &node;
        remote_saw(q->remote, answer->index);
        request_finish(q, 0, &found);
}

/* Deliver a part of a list: > 0: more follows; 0: enough; < 0: it fails. */
static int request_take_part(RemoteRequest *q, RemoteFound *answer) {
        KvFound found = { .index = answer->index, .error = answer->error };
        KvNode node;
        int r = 1;

        if (!q->begun) {
                r = request_node(q, answer, &node);
                if (r < 0)
                        return r;
                found.node = r > 0 ? &node : NULL;
                q->begun = true;
                remote_saw(q->remote, answer->index);
                r = q->ops->begin(q->userdata, &found);
        }
        while (r > 0) {
                r = remote_next_node(answer, &node);
                if (r <= 0)
                        return r < 0 ? r : 1;
                r = q->ops->visit(q->userdata, &node);
        }
        return r;
}

static void request_listed(RemoteRequest *q, RemoteFound *answer) {
        int r = answer->error;

        if (r == 0 || r == -ENOENT)
                r = request_take_part(q, answer);
        if (r > 0 && !answer->last)
                return;
        if (r >= 0)
                r = q->ops->end(q->userdata);
        request_finish(q, MIN(r, 0), NULL);
}

void requests_on_found(Remote *r, RemoteFound *found) {
        RemoteRequest *q = LIST_FIRST(&r->requests);

        while (q && q->read.number != found->number)
                q = LIST_NEXT(q, requests);
        if (!q || !q->sent)
                return;
        /* The replica is behind, or has too many reads: again, perhaps to another one, until it is due. */
        if (!q->begun && (found->error == -EAGAIN || found->error == -EBUSY ||
                          ((found->error == 0 || found->error == -ENOENT) && found->index < q->read.bound)))
                q->sent = false;
        else if (q->get)
                request_got(q, found);
        else
                request_listed(q, found);
}

/* -- Time, and the next replica -- */

void requests_send(Remote *r) {
        for (RemoteRequest *q = LIST_FIRST(&r->requests), *next; q; q = next) {
                next = LIST_NEXT(q, requests);
                if (q->begun)
                        request_finish(q, -ECANCELED, NULL);
                else
                        request_send(q);
        }
}

bool requests_on_due(Remote *r) {
        uint64_t now = loop_now_ms(r->loop);

        for (RemoteRequest *q = LIST_FIRST(&r->requests), *next; q; q = next) {
                next = LIST_NEXT(q, requests);
                if (now >= q->due_ms)
                        request_finish(q, -ETIMEDOUT, NULL);
                else if (!q->sent)
                        request_send(q);
        }
        return !LIST_EMPTY(&r->requests);
}

KvGet *remote_take_get(Remote *r) {
        RemoteRequest *q = LIST_FIRST(&r->requests);
        KvGet *get;

        while (q && !q->get)
                q = LIST_NEXT(q, requests);
        if (!q)
                return NULL;
        get = q->get;
        request_free(q);
        get->request = NULL;
        return get;
}

void requests_end(Remote *r, int error) {
        while (!LIST_EMPTY(&r->requests))
                request_finish(LIST_FIRST(&r->requests), error, NULL);
}

void requests_drop(Remote *r) {
        while (!LIST_EMPTY(&r->requests))
                request_free(LIST_FIRST(&r->requests));
}
