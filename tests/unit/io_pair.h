/* A real loop with a real listener in a scratch folder, and clients on it: what the tests of io/ stand on.
 *
 * Everything runs on one loop; a test says what it waits for, and a guard fails it after 30 s. */
#pragma once

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/loop_uv.h"
#include "io/stream.h"

typedef struct Pair {
        UvLoop *uv;
        Loop *loop;
        Network *net;
        Listener *listener;
        char folder[64], address[96];
        Timer guard;
        Stream *accepted[300]; /* for tests without a server of their own */
        unsigned n_accepted;
        void (*on_accepted)(void *userdata, Stream *s); /* or NULL */
        void *userdata;
} Pair;

/* One end of a stream that collects what comes. */
typedef struct End {
        Pair *pair;
        Stream *stream;
        Text got;
        bool finished, closed, drained;
        int error, connect_error;
        char reason[128];
} End;

/* Runs the loop until the expression holds. */
#define RUN_UNTIL(pair, expression)              \
        do {                                     \
                while (!(expression))            \
                        loop_uv_run((pair)->uv); \
        } while (0)

static void end_on_read(void *userdata, const void *bytes, size_t size) {
        End *e = userdata;

        if (size == 0)
                e->finished = true;
        text_append_bytes(&e->got, bytes, size);
        loop_uv_stop(e->pair->uv);
}

static void end_on_drain(void *userdata) {
        End *e = userdata;

        e->drained = true;
        loop_uv_stop(e->pair->uv);
}

static void end_on_close(void *userdata, int error, const char *reason) {
        End *e = userdata;

        e->closed = true;
        e->error = error;
        e->stream = NULL;
        snprintf(e->reason, sizeof(e->reason), "%s", reason);
        loop_uv_stop(e->pair->uv);
}

static const StreamEvents end_events = { .on_read = end_on_read,
                                         .on_drain = end_on_drain,
                                         .on_close = end_on_close };

static void end_take(End *e, Pair *pair, Stream *s) {
        *e = (End) { .pair = pair, .stream = s };
        stream_set_events(s, &end_events, e);
        stream_pause(s, false);
}

static void end_on_connected(void *userdata, Stream *s, int error) {
        End *e = userdata;

        if (s)
                end_take(e, e->pair, s);
        e->connect_error = error;
        loop_uv_stop(e->pair->uv);
}

_unused_ static void end_connect(End *e, Pair *pair) {
        int error = 0;

        *e = (End) { .pair = pair, .connect_error = 1 };
        assert_non_null(pair->net->ops->connect(pair->net, pair->address, 5000, end_on_connected, e, &error));
        RUN_UNTIL(pair, e->connect_error != 1);
        assert_int_equal(e->connect_error, 0);
}

_unused_ static void end_send(End *e, const char *bytes) {
        assert_int_equal(stream_write(e->stream, bytes, strlen(bytes)), 0);
}

_unused_ static const char *end_text(const End *e) {
        return e->got.chars ?: "";
}

_unused_ static void end_done(End *e) {
        if (e->stream && !e->closed) {
                stream_close(e->stream);
                RUN_UNTIL(e->pair, e->closed);
        }
        text_done(&e->got);
}

static void pair_on_accepted(void *userdata, Stream *s) {
        Pair *pair = userdata;

        if (pair->on_accepted)
                pair->on_accepted(pair->userdata, s);
        else
                pair->accepted[pair->n_accepted++] = s;
        loop_uv_stop(pair->uv);
}

static void pair_on_guard(void *userdata) {
        fail_msg("nothing happened for 30 s");
}

_unused_ static void pair_open(Pair *pair) {
        Error err = {};

        *pair = (Pair) { .folder = "/tmp/fleetd-io-XXXXXX" };
        assert_non_null(mkdtemp(pair->folder));
        snprintf(pair->address, sizeof(pair->address), "%s/socket", pair->folder);
        assert_int_equal(loop_uv_new(&pair->uv), 0);
        pair->loop = loop_uv_base(pair->uv);
        assert_int_equal(net_uv_new(&pair->net, pair->loop), 0);
        if (pair->net->ops->listen(pair->net, pair->address, pair_on_accepted, pair, &pair->listener, &err) <
            0)
                fail_msg("%s", err.message);
        pair->guard = (Timer) { .fire = pair_on_guard };
        assert_int_equal(timer_start(&pair->guard, pair->loop, 30000), 0);
}

_unused_ static void pair_close(Pair *pair) {
        timer_stop(&pair->guard);
        pair->net->ops->unlisten(pair->net, pair->listener);
        pair->net = net_uv_free(pair->net);
        pair->uv = loop_uv_free(pair->uv);
        assert_int_equal(remove_tree_at(-1, pair->folder), 0); /* an absolute path: no folder is asked */
}
