/* Requests under way. */

#include "fleetd/identity/authority_internal.h"

bool authority_may_issue(Authority *a) {
        return pace_try(&a->issues, AUTHORITY_ISSUED_SEC, AUTHORITY_ISSUED_SEC, loop_now_ms(a->loop));
}

static void authority_on_retry(void *userdata) {
        AuthorityOp *op = userdata;

        loop_defer(op->authority->loop, &op->authority->update);
}

AuthorityOp *authority_op_new(Authority *a, AuthorityOpKind kind) {
        AuthorityOp *op;
        bool of_host = a->types[kind].refuse;
        size_t n = 0, n_hosts = 0;

        LIST_FOREACH(op, &a->operations, ops) {
                n++;
                n_hosts += op->session != 0;
        }
        op = n < AUTHORITY_OPS_MAX && (!of_host || n_hosts < AUTHORITY_OPS_HOSTS) ? NEW0(AuthorityOp, 1) :
                                                                                    NULL;
        if (!op)
                return NULL;
        op->authority = a;
        op->kind = kind;
        op->lifetime_ms = TLS_LEAF_LIFETIME_MS;
        op->deadline_ms = loop_now_ms(a->loop) + AUTHORITY_MS;
        op->retry = TIMER(authority_on_retry, op);
        LIST_INSERT_HEAD(&a->operations, op, ops);
        loop_defer(a->loop, &a->update);
        return op;
}

int authority_op_begin(Authority *a, AuthorityOpKind kind, AuthorityDone *done, void *userdata,
                       AuthorityOp **ret, Error *err) {
        *ret = authority_op_new(a, kind);
        if (!*ret)
                return error_set(err, -ENOMEM, "too many requests at once; try again");
        (*ret)->done = done;
        (*ret)->userdata = userdata;
        return 0;
}

void authority_op_free(AuthorityOp *op) {
        LIST_REMOVE(op, ops);
        if (op->syncing)
                kv_sync_cancel(op->authority->store, &op->sync);
        registry_cancel(op->authority->registry, op);
        timer_stop(&op->retry);
        token_record_done(&op->record);
        right_list_unref(op->rights);
        enter_request_done(&op->request);
        explicit_bzero(op, sizeof(*op));
        free(op);
}

void authority_op_fail(AuthorityOp *op, int error, const char *message) {
        if (op->session == 0)
                op->done(op->userdata, error, message, NULL);
        else
                op->authority->types[op->kind].refuse(op, error, message);
        authority_op_free(op);
}

void authority_op_end(AuthorityOp *op, const AuthorityResult *result) {
        op->done(op->userdata, 0, NULL, result);
        authority_op_free(op);
}

void authority_op_again(AuthorityOp *op) {
        op->writing = false;
        (void) timer_start(&op->retry, op->authority->loop, AUTHORITY_RETRY_MS);
}

bool authority_op_written(AuthorityOp *op, KvStatus status, const char *message) {
        op->writing = false;
        if (status == KV_COMPARE_FAILED)
                authority_op_again(op);
        else if (status != KV_OK)
                authority_op_fail(op, -EAGAIN, message);
        return status == KV_OK;
}

void authority_cancel(Authority *a, const void *userdata) {
        AuthorityOp *next;

        for (AuthorityOp *op = LIST_FIRST(&a->operations); op; op = next) {
                next = LIST_NEXT(op, ops);
                if (op->userdata == userdata && op->session == 0)
                        authority_op_free(op);
        }
}
