/* Reads of users' keys by a host without a replica. A read is sent again to the next replica. */
#include "kvstore/remote_internal.h"

struct RemoteRequest {
        Remote *remote;
        Call call;
        RemoteRead read; /* its key is below */
        uint64_t due_ms;
        KvGet *get;
        LIST_ENTRY(RemoteRequest) requests;
        char key[];
};

void remote_cancel(RemoteRequest *q) {
        call_end(&q->call);
        LIST_REMOVE(q, requests);
        free(q);
}

/* Call 'done', and free it. */
static void request_finish(RemoteRequest *q, int result, const KvFound *found) {
        KvGet *get = q->get;

        remote_cancel(q);
        get->request = NULL;
        get->done(get->userdata, result, found);
}

static void request_send(RemoteRequest *q) {
        _cleanup_writer_ Writer w = {};

        call_end(&q->call);
        q->read.number = (uint32_t) call_number(&q->call);
        q->read.bound = q->remote->bound;
        remote_read_write(&q->read, &w);
        (void) call_send(&q->call, remote_session(q->remote), PEER_READ, &w);
}

int remote_get(Remote *r, KvGet *get, RemoteRequest **ret) {
        RemoteRequest *q = calloc(1, sizeof(*q) + get->key.size);
        char *at;

        if (!q)
                return -ENOMEM;
        *q = (RemoteRequest) { .remote = r,
                               .read = { .kind = REMOTE_GET, .key = get->key },
                               .due_ms = loop_now_ms(r->loop) + REMOTE_WAIT_MS,
                               .get = get };
        call_init(&q->call, &r->calls, 0);
        at = q->key;
        kv_bytes_place(&at, &q->read.key);
        LIST_INSERT_HEAD(&r->requests, q, requests);
        request_send(q);
        remote_keep_time(r);
        *ret = q;
        return 0;
}

/* -- Answers -- */

/* Set the node at the key: > 0 if there is one. */
static int request_node(const RemoteRequest *q, RemoteFound *answer, KvNode *ret) {
        if (answer->error == 0 && q->read.key.size == 1) {
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

void requests_on_found(Call *call, RemoteFound *found) {
        RemoteRequest *q = container_of(call, RemoteRequest, call);

        /* The replica is behind, or has too many reads: again, perhaps to another one, until it is due. */
        if (found->error == -EAGAIN || found->error == -EBUSY ||
            ((found->error == 0 || found->error == -ENOENT) && found->index < q->read.bound))
                call_end(call);
        else
                request_got(q, found);
}

/* -- Time, and the next replica -- */

void requests_send(Remote *r) {
        RemoteRequest *q;

        LIST_FOREACH(q, &r->requests, requests)
                request_send(q);
}

bool requests_on_due(Remote *r) {
        uint64_t now = loop_now_ms(r->loop);

        for (RemoteRequest *q = LIST_FIRST(&r->requests), *next; q; q = next) {
                next = LIST_NEXT(q, requests);
                if (now >= q->due_ms)
                        request_finish(q, -ETIMEDOUT, NULL);
                else if (q->call.session == 0)
                        request_send(q);
        }
        return !LIST_EMPTY(&r->requests);
}

KvGet *remote_take_get(Remote *r) {
        RemoteRequest *q = LIST_FIRST(&r->requests);
        KvGet *get;

        if (!q)
                return NULL;
        get = q->get;
        remote_cancel(q);
        get->request = NULL;
        return get;
}

void requests_end(Remote *r, int error) {
        while (!LIST_EMPTY(&r->requests))
                request_finish(LIST_FIRST(&r->requests), error, NULL);
}
