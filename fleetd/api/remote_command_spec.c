#include "fleetd/api/remote_command_spec.h"

#include <ctype.h>

#include "fleetd/features/usage/usage.h"
#include "units/journal_filter.h"
#include "units/quadlet.h"

/* One row per command: the words of its command line before its options, and the word before its unit. */
static const struct {
        const char *words[7], *unit;
        bool changes; /* the unit, which must be the cluster's */
        bool follows; /* reads a journal, perhaps without end */
        bool counts;  /* takes a number of lines */
        bool of_host; /* not about a unit */
} commands[_CALL_MAX] = {
        /* -f alone shows this boot's lines only, by an id that is not the journal's where our sandbox shows
         * the kernel's own /proc and the host is a container. With --merge it does not ask for a boot. */
        [CALL_JOURNAL] = { { "journalctl", "--no-pager", "--quiet", "--merge" },
                           "--unit",
                           .follows = true,
                           .counts = true },
        [CALL_STATUS] = { { "systemctl", "--no-pager", "status", "--full" }, "--", .counts = true },
        [CALL_SHOW] = { { "systemctl", "--no-pager", "show" }, "--" },
        [CALL_DEPENDENCIES] = { { "systemctl", "--no-pager", "list-dependencies" }, "--" },
        [CALL_RELOAD] = { { "systemctl", "--no-pager", "reload" }, "--", .changes = true },
        [CALL_KILL] = { { "systemctl", "--no-pager", "kill" }, "--", .changes = true },
        [CALL_RESET_FAILED] = { { "systemctl", "--no-pager", "reset-failed" }, "--", .changes = true },
        [CALL_LOG] = { { "journalctl", "--no-pager", "--quiet", "--merge", "--all", "--output=json" },
                       "--unit",
                       .follows = true,
                       .counts = true,
                       .of_host = true },
        [CALL_USAGE] = { { "/proc/self/exe", "--usage" }, .of_host = true },
};

#define TEXT(member, ...)                                                                                   \
        {                                                                                                   \
#member, offsetof(RemoteCommandSpec, member), sizeof(((RemoteCommandSpec *) NULL)->member), \
                        __VA_ARGS__                                                                         \
        }
enum {
        JOURNAL = 1 << CALL_JOURNAL,
        SHOW = 1 << CALL_SHOW,
        KILL = 1 << CALL_KILL,
        LOG = 1 << CALL_LOG,
        USAGE = 1 << CALL_USAGE
};

/* Hosts of older versions, which do not know the later kinds, support the first ones only. */
enum { OLD_TEXTS = 7, LOG_TEXTS = 11 };

const RemoteCommandText remote_command_texts[REMOTE_COMMAND_TEXTS] = {
        TEXT(unit),
        TEXT(output, JOURNAL, "output"),
        TEXT(since, JOURNAL | LOG, "since"),
        TEXT(until, JOURNAL | LOG, "until"),
        TEXT(properties, SHOW, "property"),
        TEXT(signal, KILL, "signal"),
        TEXT(whom, KILL, "kill-whom"),
        TEXT(priority, LOG, "priority"),
        TEXT(grep, LOG, "grep"),
        TEXT(fields, LOG, "output-fields"),
        TEXT(matches),
        TEXT(interval, USAGE, "interval"),
};

bool remote_command_changes(RemoteCommandKind kind) {
        return commands[kind].changes;
}

CallerWork remote_command_work(RemoteCommandKind kind) {
        if (kind == CALL_USAGE)
                return CALLER_USAGE;
        return commands[kind].follows ? CALLER_JOURNAL : CALLER_COMMAND;
}

bool remote_command_is_of_host(RemoteCommandKind kind) {
        return commands[kind].of_host;
}

const char *remote_command_program(RemoteCommandKind kind) {
        return commands[kind].words[0];
}

static bool is_made_of(const char *s, const char *others) {
        for (; *s; s++)
                if (!isalnum((unsigned char) *s) && !strchr(others, *s))
                        return false;
        return true;
}

/* Check what selects entries of the log. */
static int filters_check(const RemoteCommandSpec *spec, Error *err) {
        char matches[sizeof(spec->matches)], *rest = matches;

        memcpy(matches, spec->matches, sizeof(matches));
        if (*spec->priority && journal_priority_check(spec->priority, err) < 0)
                return error_prefix(err, -EINVAL, "priority");
        if (*spec->grep && journal_grep_check(spec->grep, err) < 0)
                return error_prefix(err, -EINVAL, "grep");
        if (!is_made_of(spec->fields, ",_"))
                return error_set(err, -EINVAL, "fields: expected names with commas between");
        for (size_t n = 1; rest && *rest; n++) {
                if (n > CALL_MATCHES_MAX)
                        return error_set(err, -EINVAL, "matches: more than %d", CALL_MATCHES_MAX);
                if (journal_match_check(strsep(&rest, "\n"), err) < 0)
                        return error_prefix(err, -EINVAL, "matches");
        }
        return 0;
}

int remote_command_spec_check(RemoteCommandSpec *spec, Error *err) {
        static const char outputs[] = "short short-iso short-iso-precise short-precise short-monotonic "
                                      "short-unix short-full with-unit verbose json json-pretty cat export";
        uint64_t interval_ms;

        if (!spec->output[0])
                snprintf(spec->output, sizeof(spec->output), "short");
        if (!spec->signal[0])
                snprintf(spec->signal, sizeof(spec->signal), "SIGTERM");
        if (!spec->whom[0])
                snprintf(spec->whom, sizeof(spec->whom), "all");

        if (commands[spec->kind].of_host)
                snprintf(spec->unit, sizeof(spec->unit), "fleetd.service");
        if (spec->kind == CALL_USAGE && !spec->interval[0])
                snprintf(spec->interval, sizeof(spec->interval), USAGE_INTERVAL);
        if (spec->kind == CALL_USAGE)
                TRY(usage_interval_parse(spec->interval, &interval_ms, err));
        else
                *spec->interval = 0;
        if (spec->kind != CALL_LOG)
                *spec->priority = *spec->grep = *spec->fields = *spec->matches = 0;

        if (unit_name_check(spec->unit, err) < 0)
                return -EINVAL;
        if (spec->lines > CALL_LINES_MAX && !(spec->kind == CALL_LOG && spec->lines == CALL_LINES_ALL))
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
        return filters_check(spec, err);
}

/* The signal of a command that only reads. Older hosts accept it, and pass it on. */
#define CLUSTER_ONLY "CLUSTER"

/* -- Between hosts: u8 version, u8 kind, the texts as strings, u32 lines, u8 follow -- */

static size_t texts_of(RemoteCommandKind kind) {
        if (kind < CALL_LOG)
                return OLD_TEXTS;
        return kind == CALL_LOG ? LOG_TEXTS : REMOTE_COMMAND_TEXTS;
}

void remote_command_spec_write(const RemoteCommandSpec *spec, Writer *w) {
        write_u8(w, CALL_VERSION);
        write_u8(w, spec->kind);
        for (size_t i = 0; i < texts_of(spec->kind); i++) {
                const char *text = (const char *) spec + remote_command_texts[i].offset;

                write_string(w, text == spec->signal && spec->cluster_only ? CLUSTER_ONLY : text);
        }
        write_u32(w, spec->lines);
        write_u8(w, spec->follow);
}

int remote_command_spec_read(Reader *r, RemoteCommandSpec *ret) {
        uint8_t version = read_u8(r), kind = read_u8(r);
        RemoteCommandSpec spec = { .kind = kind };

        if (version != CALL_VERSION || kind >= _CALL_MAX)
                return -EBADMSG;
        for (size_t i = 0; i < texts_of(kind); i++) {
                _cleanup_free_ char *s = read_string(r, remote_command_texts[i].size - 1);

                if (!s)
                        return -EBADMSG;
                memcpy((char *) &spec + remote_command_texts[i].offset, s, strlen(s) + 1);
        }
        spec.lines = read_u32(r);
        spec.follow = read_u8(r);
        if (reader_end(r) < 0 || remote_command_spec_check(&spec, NULL) < 0)
                return -EBADMSG;
        spec.cluster_only = !commands[kind].changes && streq(spec.signal, CLUSTER_ONLY);
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
        char lines[16] = "all", *rest = ret->matches;
        Line l = { .command = ret };

        *ret = (RemoteCommandLine) {};
        /* Not for a journal: hosts of older versions reject a request of all lines. */
        if (spec->lines != CALL_LINES_ALL &&
            !(spec->kind == CALL_JOURNAL && *spec->since && spec->lines == CALL_LINES_MAX))
                snprintf(lines, sizeof(lines), "%u", spec->lines);
        for (size_t i = 0; commands[spec->kind].words[i]; i++)
                add(&l, commands[spec->kind].words[i]);
        if (commands[spec->kind].counts)
                add_option(&l, "lines", lines);
        for (size_t i = 0; i < REMOTE_COMMAND_TEXTS; i++)
                if (remote_command_texts[i].kinds & 1U << spec->kind)
                        add_option(&l, remote_command_texts[i].option,
                                   (const char *) spec + remote_command_texts[i].offset);
        if (commands[spec->kind].follows && spec->follow)
                add(&l, "--follow");
        if (!commands[spec->kind].unit)
                return;
        add(&l, commands[spec->kind].unit);
        quadlet_service(spec->unit, ret->unit);
        add(&l, ret->unit);
        /* Only that of the log has matches: remote_command_spec_check(). */
        memcpy(ret->matches, spec->matches, sizeof(ret->matches));
        while (rest && *rest)
                add(&l, strsep(&rest, "\n"));
}
