#include "client/verbs/log_source.h"

#include "base/clock.h"
#include "client/core/machines.h"
#include "client/verbs/unit_status.h"

enum { PRIORITY_DEFAULT = 6 };

void log_entry_free(struct Entries *list, LogEntry *e) {
        TAILQ_REMOVE(list, e, all);
        free(e->text);
        free(e);
}

void log_source_drop_first(LogSource *s) {
        LogEntry *e = TAILQ_FIRST(&s->entries);

        s->held -= e->size;
        s->n_entries--;
        log_entry_free(&s->entries, e);
}

void log_append_name(Text *t, const LogSource *s) {
        _cleanup_text_ Text name = {};

        append_machine_name(&name, &s->log->machines, s->in.machine->id);
        text_append_printable(t, name.chars ?: "");
        t->error = t->error ?: name.error;
}

/* A message that is not UTF-8 is an array of bytes. */
static void append_message(Text *t, const JsonValue *entry) {
        const JsonValue *message = json_value_member(entry, "MESSAGE");
        uint64_t byte;

        text_append(t, json_value_string(message) ?: "");
        JSON_EACH(item, message)
                if (json_value_u64(item, &byte) >= 0 && byte > 0)
                        text_append_char(t, (char) byte);
}

/* Take an entry. Another line is a message of journalctl or of fleetd. */
static int log_source_add(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text text = {};
        uint64_t at_us = 0, priority = PRIORITY_DEFAULT;
        LogSource *s = userdata;
        LogEntry *e;
        int r;

        r = json_value_parse(line, size, &root, NULL);
        if (r == -ENOMEM)
                return r;
        if (r < 0 || parse_u64(member_text(root, "__REALTIME_TIMESTAMP"), &at_us) < 0)
                return 1;
        (void) parse_u64(member_text(root, "PRIORITY"), &priority);
        if (s->log->output == LOG_JSON)
                text_append_bytes(&text, line, size);
        else
                append_message(&text, root);
        text_append(&text, ""); /* terminated, even if empty */
        TRY(text.error);
        e = NEW0(LogEntry, 1);
        if (!e)
                return -ENOMEM;
        *e = (LogEntry) { .source = s,
                          .at_us = at_us,
                          .arrived_ms = clock_monotonic_ms(),
                          .priority = (unsigned) MIN(priority, (uint64_t) 100),
                          .size = text.size };
        e->text = text_take(&text, NULL);
        s->held += e->size;
        s->last_us = at_us;
        s->n_entries++;
        TAILQ_INSERT_TAIL(&s->entries, e, all);
        while (s->log->client->options.follow && !s->log->begun && s->n_entries > s->log->lines)
                log_source_drop_first(s);
        return 0;
}

int log_source_open(LogSource *s, Error *err) {
        const Log *l = s->log;
        _cleanup_text_ Text path = {};

        text_append(&path, "/fleet/v1/log?");
        unit_status_add(&path, "machine", s->in.machine->id);
        text_append(&path, l->filters.chars ?: "");
        if (s->last_us > 0) /* continue after a lost connection */
                text_printf(&path, "&since=@%llu.%06llu", (unsigned long long) (s->last_us + 1) / 1000000,
                            (unsigned long long) (s->last_us + 1) % 1000000);
        else if (l->since_ms > 0)
                text_printf(&path, "&since=@%llu.%03llu", (unsigned long long) l->since_ms / 1000,
                            (unsigned long long) l->since_ms % 1000);
        if (s->last_us == 0 && l->sends_lines)
                text_printf(&path, "&lines=%llu", (unsigned long long) l->lines);
        s->in.line = log_source_add;
        s->in.userdata = s;
        return machine_stream_open(&s->in, &path, err);
}

void log_source_note(LogSource *s, const char *reason, bool again) {
        _cleanup_text_ Text name = {}, absence = {};

        s->log->failed = true;
        if (s->noted)
                return;
        s->noted = true;
        (void) output_flush();
        log_append_name(&name, s);
        if (append_absence(&absence, s->log->client, s->in.machine))
                client_note("%s%s: its log is on that host (journalctl -u fleetd)%s", name.chars ?: "",
                            absence.chars ?: "", again ? "; trying again" : "");
        else
                client_note("no log of %s: %s%s", name.chars ?: "", reason, again ? "; trying again" : "");
}

int log_source_read(LogSource *s, uint64_t ms) {
        const char *reason;
        int r;

        r = machine_stream_read(&s->in, ms, s->log->client->options.follow, &reason);
        if (r > 0)
                s->noted = false;
        if (reason)
                log_source_note(s, reason, s->in.retry_ms > 0);
        return r;
}
