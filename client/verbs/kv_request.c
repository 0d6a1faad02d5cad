/* Requests of the v2 API. */
#include "client/verbs/kv.h"

#include "units/json_record.h"

#define KEYS_PATH "/v2/keys"

enum { ETCD_FORBIDDEN = 110 };

void kv_append_key(Text *t, const char *key) {
        text_append(t, key[0] == '/' ? KEYS_PATH : KEYS_PATH "/");
        append_escaped(t, key, true);
}

void kv_add_bytes(Text *form, const char *name, const void *bytes, size_t size) {
        text_printf(form, "%s%s=", form->size > 0 ? "&" : "", name);
        append_escaped_bytes(form, bytes, size, false);
}

void kv_add_field(Text *form, const char *name, const char *value) {
        kv_add_bytes(form, name, value, strlen(value));
}

void kv_add_number(Text *form, const char *name, uint64_t value) {
        text_printf(form, "%s%s=%llu", form->size > 0 ? "&" : "", name, (unsigned long long) value);
}

/* -- Requests -- */

void kv_request_done(KvRequest *q) {
        text_done(&q->path);
        text_done(&q->form);
        json_value_free(q->root);
}

bool kv_is_rejected(long status) {
        return status >= 400 && status < 500;
}

int kv_error_read(const Reply *reply, EtcdError *ret) {
        static const JsonField fields[] = {
                { "cause", JSON_FIELD_TEXT, offsetof(EtcdError, cause) },
                { "errorCode", JSON_FIELD_U64, offsetof(EtcdError, code), .required = true },
                { "index", JSON_FIELD_U64, offsetof(EtcdError, index) },
                { "message", JSON_FIELD_TEXT, offsetof(EtcdError, message) },
        };

        *ret = (EtcdError) { .message = "", .cause = "" };
        TRY(json_value_parse(reply->body.chars ?: "", reply->body.size, &ret->root, NULL));
        return json_read_fields(ret->root, JSON_FIELDS(fields), ret, NULL);
}

void kv_error_done(EtcdError *e) {
        json_value_free(e->root);
}

/* Append the right that a rejected request needs: "this needs the right keys-write:/app". */
static void append_right(Text *t, const char *method, const char *path) {
        const char *key = starts_with(path, KEYS_PATH) ? path + strlen(KEYS_PATH) : path;

        text_printf(t, "this needs the right keys-%s:", streq(method, "GET") ? "read" : "write");
        text_append_printable_bytes(t, key, strcspn(key, "?"), false);
}

int kv_fail_answer(const Reply *reply, const char *method, const char *path, uint64_t *ret_code) {
        _cleanup_(kv_error_done) EtcdError e = {};
        _cleanup_text_ Text t = {};

        if (kv_error_read(reply, &e) < 0) {
                Error err = {};
                int r = reply_check(reply, &err);

                return client_fail_after(r < 0 ? r : -EBADMSG, &err, "Error:  ");
        }
        *ret_code = e.code;
        text_printable(&t, "%s (", e.message);
        text_append_printable(&t, e.cause); /* a key, written by any client */
        fprintf(stderr, "Error:  %llu: %s) [%llu]\n", (unsigned long long) e.code, t.chars ?: "",
                (unsigned long long) e.index);
        client_note_no_leader(reply);
        if (e.code == ETCD_FORBIDDEN) {
                text_clear(&t);
                append_right(&t, method, path);
                client_note("%s (fleet-security(7), USERS)", t.chars ?: "");
        }
        return kv_is_rejected(reply->status) ? EXIT_KV : EXIT_FAILED;
}

static bool is_success(const Reply *reply) {
        return reply->status >= 200 && reply->status < 300;
}

static int kv_connect(Client *c, KvRequest *q, Reply *ret, Error *err) {
        q->root = json_value_free(q->root);
        q->node = NULL;
        q->code = 0;
        q->rejected = false;
        return connection_request(c->connection, q->method, client_path(&q->path), CONTENT_FORM, &q->form,
                                  ret, err);
}

int kv_run(Client *c, KvRequest *q, Error *err) {
        _cleanup_reply_ Reply reply = {};

        TRY(kv_connect(c, q, &reply, err));
        if (!is_success(&reply))
                return kv_fail_answer(&reply, q->method, client_path(&q->path), &q->code);
        if (streq(c->options.output, "json")) {
                (void) output_text(reply.body.chars, reply.body.size);
                return EXIT_DONE;
        }
        TRY_PREFIX(json_value_parse(reply.body.chars, reply.body.size, &q->root, err), err,
                   "fleetd's answer");
        q->node = json_value_member(q->root, "node");
        return EXIT_DONE;
}

int kv_send(Client *c, KvRequest *q, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_(kv_error_done) EtcdError e = {};
        int r;

        r = TRY(kv_connect(c, q, &reply, err));
        q->index = reply.index;
        if (is_success(&reply)) {
                r = json_value_parse(reply.body.chars ?: "", reply.body.size, &q->root, NULL);
                if (r < 0)
                        return error_set(err, r, "fleetd's answer is not JSON");
                q->node = json_value_member(q->root, "node");
                return 0;
        }
        if (kv_error_read(&reply, &e) < 0)
                return reply_check(&reply, err);
        q->code = e.code;
        q->rejected = kv_is_rejected(reply.status);
        return error_set(err, reply.status == 503 ? -EBUSY : -EREMOTEIO, "%llu: %s (%s)",
                         (unsigned long long) e.code, e.message, e.cause);
}
