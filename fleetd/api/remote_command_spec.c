#include "fleetd/api/remote_command_spec.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "base/text.h"
#include "units/quadlet.h"

bool remote_command_changes(RemoteCommandKind kind) {
        return kind == CALL_RELOAD || kind == CALL_KILL || kind == CALL_RESET_FAILED;
}

static bool is_made_of(const char *s, const char *others) {
        for (; *s; s++)
                if (!isalnum((unsigned char) *s) && !strchr(others, *s))
                        return false;
        return true;
}

int remote_command_spec_check(RemoteCommandSpec *spec, Error *err) {
        static const char outputs[] = "short short-iso short-iso-precise short-precise short-monotonic "
                                      "short-unix short-full with-unit verbose json json-pretty cat export";

        if (!spec->output[0])
                snprintf(spec->output, sizeof(spec->output), "short");
        if (!spec->signal[0])
                snprintf(spec->signal, sizeof(spec->signal), "SIGTERM");
        if (!spec->whom[0])
                snprintf(spec->whom, sizeof(spec->whom), "all");

        if (unit_name_check(spec->unit, err) < 0)
                return -EINVAL;
        if (spec->lines > CALL_LINES_MAX)
                return error_set(err, -EINVAL, "lines: expected a number up to %d", CALL_LINES_MAX);
        if (!text_has_word(outputs, spec->output))
                return error_set(err, -EINVAL, "output: journalctl has no format '%s'", spec->output);
        if (!is_made_of(spec->since, " :+-.,@/"))
                return error_set(err, -EINVAL, "since: expected a time as journalctl(1) takes it");
        if (!is_made_of(spec->until, " :+-.,@/"))
                return error_set(err, -EINVAL, "until: expected a time as journalctl(1) takes it");
        if (!is_made_of(spec->properties, ","))
                return error_set(err, -EINVAL, "properties: expected names with commas between");
        if (!is_made_of(spec->signal, "+-"))
                return error_set(err, -EINVAL, "signal: expected a name or a number");
        if (!text_has_word("main control all", spec->whom))
                return error_set(err, -EINVAL, "whom: expected main, control or all");
        return 0;
}

/* -- Between hosts: u8 version, u8 kind, strings unit, output, since, until, properties, signal, whom, u32
 * lines, u8 follow -- */

#define TEXT(member) \
        { #member, offsetof(RemoteCommandSpec, member), sizeof(((RemoteCommandSpec *) NULL)->member) }

const RemoteCommandText remote_command_texts[REMOTE_COMMAND_TEXTS] = {
        TEXT(unit), TEXT(output), TEXT(since), TEXT(until), TEXT(properties), TEXT(signal), TEXT(whom),
};

void remote_command_spec_write(const RemoteCommandSpec *spec, Writer *w) {
        write_u8(w, CALL_VERSION);
        write_u8(w, spec->kind);
        for (size_t i = 0; i < REMOTE_COMMAND_TEXTS; i++)
                write_string(w, (const char *) spec + remote_command_texts[i].offset);
        write_u32(w, spec->lines);
        write_u8(w, spec->follow);
}

int remote_command_spec_read(Reader *r, RemoteCommandSpec *ret) {
        uint8_t version = read_u8(r), kind = read_u8(r);
        RemoteCommandSpec spec = { .kind = kind };

        if (version != CALL_VERSION || kind >= _CALL_MAX)
                return -EBADMSG;
        for (size_t i = 0; i < REMOTE_COMMAND_TEXTS; i++) {
                _cleanup_free_ char *s = read_string(r, remote_command_texts[i].size - 1);

                if (!s)
                        return -EBADMSG;
                memcpy((char *) &spec + remote_command_texts[i].offset, s, strlen(s) + 1);
        }
        spec.lines = read_u32(r);
        spec.follow = read_u8(r);
        if (reader_end(r) < 0 || remote_command_spec_check(&spec, NULL) < 0)
                return -EBADMSG;
        *ret = spec;
        return 0;
}

/* -- The command -- */

typedef struct Line {
        RemoteCommandLine *command;
        size_t n, n_buffers;
} Line;

static void add(Line *l, const char *argument) {
        l->command->argv[l->n++] = argument;
}

static void add_option(Line *l, const char *option, const char *value) {
        char *buffer = l->command->buffers[l->n_buffers];

        if (!*value)
                return;
        snprintf(buffer, sizeof(l->command->buffers[0]), "--%s=%s", option, value);
        l->n_buffers++;
        add(l, buffer);
}

void remote_command_spec_command(const RemoteCommandSpec *spec, RemoteCommandLine *ret) {
        static const char *const verbs[_CALL_MAX] = {
                [CALL_STATUS] = "status", [CALL_SHOW] = "show", [CALL_DEPENDENCIES] = "list-dependencies",
                [CALL_RELOAD] = "reload", [CALL_KILL] = "kill", [CALL_RESET_FAILED] = "reset-failed",
        };
        char lines[16];
        Line l = { .command = ret };

        *ret = (RemoteCommandLine) {};
        snprintf(lines, sizeof(lines), "%u", spec->lines);
        if (spec->kind == CALL_JOURNAL) {
                add(&l, "journalctl");
                add(&l, "--no-pager");
                add(&l, "--quiet");
                add_option(&l, "lines", lines);
                add_option(&l, "output", spec->output);
                add_option(&l, "since", spec->since);
                add_option(&l, "until", spec->until);
                /* -f alone shows this boot's lines only, by an id that is not the journal's where our sandbox
                 * shows the kernel's own /proc and the host is a container. With --merge it does not ask for
                 * a boot. */
                add(&l, "--merge");
                if (spec->follow)
                        add(&l, "--follow");
                add(&l, "--unit");
        } else {
                add(&l, "systemctl");
                add(&l, "--no-pager");
                add(&l, verbs[spec->kind]);
                if (spec->kind == CALL_STATUS) {
                        add(&l, "--full");
                        add_option(&l, "lines", lines);
                }
                if (spec->kind == CALL_SHOW)
                        add_option(&l, "property", spec->properties);
                if (spec->kind == CALL_KILL) {
                        add_option(&l, "signal", spec->signal);
                        add_option(&l, "kill-whom", spec->whom);
                }
                add(&l, "--");
        }
        quadlet_service(spec->unit, ret->unit);
        add(&l, ret->unit);
}
