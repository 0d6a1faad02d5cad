#include "client/core/topics.h"

#include "base/text.h"
#include "client/core/output.h"

enum {
        COLUMNS_DEFAULT = 80,
        TOPIC_COLUMNS_MAX = 100, /* longer lines are hard to read */
        COLUMNS_MIN = 20,
        INDENT = 4,
};

const Topic topics[] = {
#include "client/core/topics_text.h"
        {},
};

/* Words of kubectl, etcdctl, nomad, docker and others, and of later versions, for a topic or a verb. */
static const char *const foreign_topics[][2] = {
        { "backup", "snapshot" },
        { "discovery", "consul discover dns name names port ports resolve" },
        { "limits", "leader list-timers move-leader step-down transfer" },
        { "maintain", "halt maintenance poweroff shutdown" },
        { "move", "failover" },
        { "past", "audit" },
        { "remove", "forget" },
        { "run", "apply create deploy" },
        { "update", "change daemon-reload" },
};

static const char *const foreign_verbs[][2] = {
        { "destroy", "delete rm" },
        { "drain", "evacuate" },
        { "journal", "logs tail" },
        { "list-machines", "hosts machines node nodes" },
        { "list-members", "members" },
        { "list-unit-files", "is-enabled" },
        { "list-units", "get list-jobs list-sockets ls ps top units" },
        { "machine", "label" },
        { "move", "evict migrate mv relocate" },
        { "restart", "condrestart reload-or-restart try-reload-or-restart try-restart" },
        { "revert", "rollback undo" },
        { "rollout", "pause promote resume rolling rolling-update" },
        { "start", "enable reenable unmask" },
        { "status", "describe health info inspect" },
        { "submit", "link" },
        { "uncordon", "undrain" },
        { "unload", "disable mask" },
};

const Topic *topic_find(const char *name) {
        const Topic *found = NULL;
        size_t n = 0;

        for (const Topic *t = topics; t->name; t++) {
                if (streq(t->name, name))
                        return t;
                if (*name && starts_with(t->name, name)) {
                        found = t;
                        n++;
                }
        }
        return n == 1 ? found : NULL;
}

const Topic *topic_of_foreign_verb(const char *name) {
        const char *topic = words_find(foreign_topics, ELEMENTS(foreign_topics), name);

        if (topic)
                return topic_find(topic);

        /* "update" is a topic and no verb. */
        for (const Topic *t = topics; t->name; t++)
                if (streq(t->name, name))
                        return t;
        return NULL;
}

const char *verb_of_foreign(const char *name) {
        return words_find(foreign_verbs, ELEMENTS(foreign_verbs), name);
}

const char *flag_of_foreign(const char *verb, const char *flag) {
        static const struct {
                const char *verbs, *flags, *use;
        } rows[] = {
                { "drain", "--dry-run",
                  "fleetctl list-units --machine=HOST lists its units, fleetctl why UNIT the other "
                  "machines" },
                { "edit submit start", "--dry-run", "fleetctl plan FILE" },
                { "journal", "-u --unit", "fleetctl journal UNIT" },
                { "kv", "--watch", "fleetctl kv watch KEY" },
                { "kv", "-w --write-out", "--output=json" },
                { "list-units", "-a --all", "fleetctl list-unit-files has units without a machine, too" },
                { "list-units list-machines list-unit-files", "-w --watch", "fleetctl events --follow" },
                { "log", "-u --unit",
                  "fleetctl log UNIT=NAME, or of the unit itself: fleetctl journal UNIT" },
                { "rollout", "-w --watch", "--wait" },
                { "start stop", "--now", "fleetctl start, stop and unload act at once" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (text_has_word(rows[i].verbs, verb) && text_has_word(rows[i].flags, flag))
                        return rows[i].use;
        return NULL;
}

static size_t topic_columns(void) {
        size_t columns = output_columns();

        return columns == 0 ? COLUMNS_DEFAULT :
                              MIN(MAX(columns, (size_t) COLUMNS_MIN), (size_t) TOPIC_COLUMNS_MAX);
}

/* Return the columns of the mark before an item of a list: "- " or "1. ". */
static size_t topic_hanging(char mark) {
        if (mark == 'n')
                return strlen("1. ");
        return mark == 'h' ? strlen("- ") : 0;
}

void topic_print(const Topic *topic) {
        size_t columns = topic_columns();
        _cleanup_text_ Text t = {};

        printf("%s\n\n", topic->title);
        for (const char *line = topic->text, *end; *line; line = end + 1) {
                size_t indent;

                end = line + strcspn(line, "\n");
                if (line == end) {
                        putchar('\n');
                        continue;
                }
                indent = INDENT + INDENT * (size_t) (line[0] - '0');
                if (line[1] == '|')
                        printf("%*s%.*s\n", (int) indent, "", (int) (end - line - 2), line + 2);
                else {
                        text_clear(&t);
                        text_append_bytes(&t, line + 2, (size_t) (end - line) - 2);
                        output_wrap(t.chars ?: "", columns, indent, indent + topic_hanging(line[1]));
                }
        }
}
