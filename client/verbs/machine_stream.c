#include "client/verbs/machine_stream.h"

#include "base/clock.h"
#include "client/core/machines.h"
#include "client/verbs/unit_status.h"

enum {
        STREAM_RETRY_MS = 2000, /* after a machine was lost */
        EXIT_UNREACHABLE = 255, /* from fleetd: the session to the machine has ended */
        STREAM_SAID_MAX = 500,  /* bytes of a message about a failure */
};

void machine_stream_done(MachineStream *s) {
        s->stream = stream_free(s->stream);
        text_done(&s->partial);
        text_done(&s->said);
}

static int machine_stream_on_line(void *userdata, const char *line, size_t size) {
        MachineStream *s = userdata;
        int r;

        size -= size > 0 && line[size - 1] == '\n';
        r = TRY(s->line(s->userdata, line, size));
        if (r == 0)
                return 0;
        text_clear(&s->said);
        text_append_bytes(&s->said, line, MIN(size, (size_t) STREAM_SAID_MAX));
        return s->said.error;
}

static int machine_stream_on_answer(void *userdata, const char *json, size_t size) {
        MachineStream *s = userdata;

        return unit_status_lines(json, size, &s->partial, &s->status, machine_stream_on_line, s);
}

int machine_stream_open(MachineStream *s, const Text *path, Error *err) {
        s->status = -1;
        s->retry_ms = 0;
        text_clear(&s->partial);
        text_clear(&s->said);
        return stream_new(s->client->connection, "GET", client_path(path), machine_stream_on_answer, s,
                          &s->stream, err);
}

static const char *stream_reason(const Error *err, int r) {
        if (r == -EREMOTEIO)
                return client_answer_text(err);
        return r == -EBADMSG ? "its answer is invalid" : error_text(err, r);
}

int machine_stream_read(MachineStream *s, uint64_t ms, bool again, const char **ret_reason) {
        static const char program[] = "fleetd: ";
        const char *reason;
        bool passes = false;
        int r;

        *ret_reason = NULL;
        s->err = (Error) {};
        r = stream_wait(s->stream, ms, &s->err);
        if (r >= 0 || r == -ENOMEM)
                return r;
        s->stream = stream_free(s->stream);
        reason = s->said.size > 0 ? s->said.chars : NULL;
        if (reason && starts_with(reason, program))
                reason += strlen(program);
        if (r == -ENODATA && s->status == UNIT_STATUS_LIMIT)
                reason = UNIT_STATUS_LIMIT_TEXT;
        if (r != -ENODATA) {
                reason = stream_reason(&s->err, r);
                passes = r != -EREMOTEIO || client_is_about_daemon(r, &s->err);
        } else if (s->status < 0 || s->status == EXIT_UNREACHABLE) {
                reason = reason ?: "connection lost before the end";
                passes = true;
        }
        if (again && passes)
                s->retry_ms = clock_monotonic_ms() + STREAM_RETRY_MS;
        *ret_reason = reason;
        return 0;
}

/* -- Which machines -- */

/* Return whether it is known that the machine may never return: it has been lost, or has left, for an hour,
 * or was replaced. */
static bool machine_is_gone(const JsonValue *cluster, const ApiMachine *m) {
        uint64_t age_ms = machine_age(cluster, m);

        return machine_is_replaced(m) ||
               (!machine_is_there(m) && age_ms >= MACHINE_GONE_MS && age_ms != UINT64_MAX);
}

int machine_stream_select(Client *c, const Listing *machines,
                          int (*add)(void *userdata, const ApiMachine *machine), void *userdata) {
        _cleanup_free_ char *copy = strdup(c->options.machine ?: "");
        char *rest = c->options.machine ? copy : NULL;
        _cleanup_json_ JsonValue *cluster = NULL;

        if (!copy)
                return -ENOMEM;
        /* Without an answer about the cluster, none is known to be gone. */
        if (!rest)
                TRY(client_get_json(c, "/fleet/v1/cluster", &cluster, NULL) == -ENOMEM ? -ENOMEM : 0);
        for (size_t i = 0; i < machines->n && !rest; i++)
                if (!machine_is_gone(cluster, &machines->machines[i]))
                        TRY(add(userdata, &machines->machines[i]));
        while (rest) {
                const char *name = strsep(&rest, ",");
                const ApiMachine *machine = NULL;
                size_t n = listing_find_machine(machines, name, &machine);

                if (n != 1) {
                        client_note_machine(machines, n, "--machine=", name);
                        return n == 0 ? EXIT_ABSENT : EXIT_FAILED;
                }
                TRY(add(userdata, machine));
        }
        return EXIT_DONE;
}
