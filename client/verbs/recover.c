/* recover and restore: make this host a cluster of one, from its own replica or from a backup. They run as
 * root on that host: ask the daemon, say what is lost and which hosts return, ask for the name of the
 * machine, stop fleetd.service, let fleetd do the work, and start it again.
 *
 * A crash before fleetd has renamed the new tree leaves the host as it was; after it, the host is a cluster
 * of one. In both cases the service has to be started, which a repeated command, or the boot, does. */
#include "client/verbs/recover.h"

#include <limits.h>

#include "client/core/notes.h"
#include "client/core/subprocess.h"
#include "client/verbs/backup_check.h"

enum { RECOVER_POLL_MS = 100, NOTE_MS = 800, WAIT_MAX_MS = 15000 };

typedef struct Recovery {
        Client *client;
        JsonValue *cluster;           /* the answer of the daemon; NULL: it does not answer, or has none */
        bool waits;                   /* it answers an error: it has no state of a cluster */
        char name[HOST_NAME_MAX + 1]; /* of this machine */
        bool alone;                   /* no other host is known to have been in the cluster */
} Recovery;

static void recovery_done(Recovery *r) {
        json_value_free(r->cluster);
}

static int recovery_begin(Recovery *r, Error *err) {
        int e;

        if (geteuid() != 0)
                return error_set(err, -EPERM,
                                 "%s reads or replaces the state of this host: run it there as root",
                                 r->client->verb->name);
        if (!starts_with(r->client->options.endpoint, "unix://") || *r->client->options.tunnel)
                return error_set(err, -EINVAL, "%s works on this host only: omit --endpoint and --tunnel",
                                 r->client->verb->name);
        e = client_get_json(r->client, "/fleet/v1/cluster", &r->cluster, err);
        if (e == -ENOMEM || e == -EACCES)
                return e;
        r->waits = e == -EREMOTEIO;
        (void) gethostname(r->name, sizeof(r->name) - 1);
        if (r->cluster && *member_name(r->cluster, "name"))
                snprintf(r->name, sizeof(r->name), "%s", member_name(r->cluster, "name"));
        return 0;
}

/* -- Confirmation -- */

/* Return whether the user has typed the name of this machine, or given it by --yes=NAME. */
static bool recovery_is_confirmed(const Recovery *r) {
        const char *given = r->client->options.yes_name;
        char line[HOST_NAME_MAX + 2] = "";

        if (!given && (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))) {
                client_note("nothing was changed; confirm with --yes=%s", r->name);
                return false;
        }
        if (!given) {
                fputs("Type the name of this machine to continue: ", stderr);
                if (!fgets(line, sizeof(line), stdin))
                        line[0] = 0;
                line[strcspn(line, "\n")] = 0;
                given = line;
        }
        if (streq(given, r->name))
                return true;
        client_note("'%s' is not the name of this machine, which is %s; nothing was changed", given, r->name);
        return false;
}

/* -- Commands -- */

#define ROOT_PATHS "/usr/local/sbin:/usr/sbin:/sbin"

/* Run a command with fleetd of this host in the path of root. Return its exit status. */
static int run_script(const char *script, const char *first, const char *second) {
        _cleanup_free_ char *all = NULL;

        if (asprintf(&all, "PATH=$PATH:" ROOT_PATHS "; exec %s", script) < 0) {
                all = NULL;
                return EXIT_FAILED;
        }
        return subprocess_run((const char *[]) { "sh", "-c", all, "sh", first, second, NULL },
                              (const char *[]) { ENV_FLEETCTL, "yes", NULL }, NULL, NULL, NULL);
}

/* Print the steps that remain. */
static void recovery_print_rest(const Recovery *r) {
        client_note("fleetd runs. Units are not touched; until all hosts have reported theirs, or for five "
                    "minutes, none is started, stopped or moved (fleetctl cluster)");
        if (streq(r->client->verb->name, "restore"))
                client_note("a unit that runs and is not in the backup runs on; fleetctl status names it; to "
                            "keep "
                            "it, run on its host: fleetctl start " RUNTIME_UNITS
                            "/UNIT; to stop it: then fleetctl destroy UNIT");
        if (!r->alone)
                client_note(
                        "each other host that has not been reset: systemctl stop fleetd; fleetd --reset; "
                        "systemctl start fleetd; one that has been reset, and is stopped: systemctl start "
                        "fleetd; one without /var/lib/fleet: systemctl start fleetd; fleetctl token "
                        "--replace=HOST here (with a new machine ID: fleetctl token), and fleetctl join "
                        "there");
}

/* Return whether systemd runs the service, or is about to. */
static bool recovery_has_service(void) {
        return run_script("sh -c 'case $(systemctl is-active fleetd.service) in "
                          "active|activating|reloading) exit 0; esac; exit 1'",
                          NULL, NULL) == EXIT_DONE;
}

/* Stop the service, run 'script', and start the service; after a failure, only one that ran before: a fleetd
 * without state makes a new one, after which nothing can be restored. */
static int recovery_run(const Recovery *r, const char *script, const char *first, const char *second) {
        const char *name = streq(r->client->verb->name, "recover") ? "recovery" : "restore";
        bool ran = recovery_has_service();
        int status;

        if (run_script("systemctl stop fleetd.service", NULL, NULL) != EXIT_DONE) {
                client_note("fleetd.service was not stopped; nothing was changed");
                return EXIT_FAILED;
        }
        status = run_script(script, first, second);
        if (!ran && status != EXIT_DONE && status != EXIT_IN_FORCE && status <= 128) {
                client_note("the state of this host was not changed; fleetd stays stopped");
                return EXIT_FAILED;
        }
        if (run_script("systemctl start fleetd.service", NULL, NULL) != EXIT_DONE) {
                client_note(
                        "fleetd.service was not started: journalctl -u fleetd; then systemctl start fleetd");
                return EXIT_FAILED;
        }
        if (status != EXIT_DONE && status != EXIT_IN_FORCE && status <= 128) {
                client_note("the state of this host was not changed; fleetd runs again");
                return EXIT_FAILED;
        }
        if (status == EXIT_IN_FORCE)
                client_note("the %s is in force, and is completed by this start of fleetd; check fleetctl "
                            "status",
                            name);
        else if (status > 128) /* by a signal */
                client_note("fleetd ended during the %s: if fleetctl cluster prints a new lineage, it is in "
                            "force; if not, repeat this command",
                            name);
        recovery_print_rest(r);
        return status == EXIT_DONE ? EXIT_DONE : EXIT_FAILED;
}

/* -- recover -- */

/* Return whether a majority of the voters answers. */
static bool majority_answers(const JsonValue *cluster) {
        size_t n = 0, n_reachable = 0;

        JSON_EACH(m, json_value_member(cluster, "voters")) {
                if (!streq(member_role(m), "voter"))
                        continue;
                n++;
                n_reachable += member_bool(m, "reachable");
        }
        return n > 0 && n_reachable > n / 2;
}

/* Wait until this host has been without a leader for so long that all hosts that run have had the time to
 * open a session and to send a heartbeat, which is when its state counts as stale; and until it has tried
 * each address since this command began: a host there may have started, or have been recovered, in the
 * meantime.
 */
static int recover_wait(Recovery *r, Error *err) {
        for (unsigned ms = 0; r->cluster; ms += RECOVER_POLL_MS) {
                bool stale = member_number(r->cluster, "staleSec") > 0;

                if (majority_answers(r->cluster) || (stale && member_number(r->cluster, "attemptMs") <= ms))
                        return 0;
                if (ms >= WAIT_MAX_MS && stale)
                        return error_set(
                                err, -EAGAIN,
                                "this host has not tried the address of each other host within %d s; "
                                "repeat this command",
                                WAIT_MAX_MS / 1000);
                if (ms >= WAIT_MAX_MS)
                        return error_set(err, -EAGAIN,
                                         "this host has had a leader within the last seconds; see fleetctl "
                                         "status, and repeat this command if the majority stays lost");
                if (ms == NOTE_MS)
                        client_note("waiting until each other host has had the time to answer");
                (void) usleep(RECOVER_POLL_MS * 1000);
                r->cluster = json_value_free(r->cluster);
                TRY(client_get_json(r->client, "/fleet/v1/cluster", &r->cluster, err));
        }
        return 0;
}

/* Return whether 'member' has an entry that 'self' may lack, as in an election: a higher last term, or the
 * same and a higher last index. The end of the log of a host is known if it is reachable and of this version.
 */
static bool has_more(const JsonValue *member, const JsonValue *self) {
        uint64_t term = member_number(member, "lastTerm"), own = member_number(self, "lastTerm");

        return term != own ? term > own :
                             member_number(member, "lastIndex") > member_number(self, "lastIndex");
}

/* Print the other hosts, and whether this one reaches them. Return the reachable one with the most entries,
 * if it has more than this one; else NULL. *ret_silent: a reachable voter that does not send the end of its
 * log, or NULL. */
static const JsonValue *print_others(const Recovery *r, const JsonValue **ret_silent) {
        const JsonValue *members = json_value_member(r->cluster, "voters"), *best = NULL;
        const char *self = member_text(r->cluster, "machine");

        JSON_EACH(m, members) {
                _cleanup_text_ Text t = {};

                if (streq(member_text(m, "id"), self))
                        continue;
                text_printable(&t, "  %s  %s", member_label(m), member_role(m));
                if (!member_bool(m, "reachable"))
                        text_append(&t, ", lost");
                else if (!member_number(m, "lastTerm")) {
                        text_append(&t, ", reachable, last entry unknown");
                        if (streq(member_role(m), "voter"))
                                *ret_silent = m;
                } else {
                        text_printf(&t, ", reachable, last entry %llu, term %llu",
                                    (unsigned long long) member_number(m, "lastIndex"),
                                    (unsigned long long) member_number(m, "lastTerm"));
                        if (has_more(m, best ?: r->cluster))
                                best = m;
                }
                (void) output_built(&t);
        }
        return best;
}

/* Refuse a recovery of this host while another one has more or may have, or continues the cluster already. */
static int recover_check(const Recovery *r, const JsonValue *best, const JsonValue *silent, Error *err) {
        _cleanup_text_ Text name = {};
        const char *other = member_text(r->cluster, "otherLineage");

        text_append_printable(&name, best              ? member_label(best) :
                                     silent && !*other ? member_label(silent) :
                                                         other);
        TRY(name.error);
        if (best)
                return error_set(
                        err, -EPERM,
                        "%s has more entries than this host, and can be reached: run fleetctl recover "
                        "on %s. Only if it cannot be recovered, stop fleetd on it, and repeat this "
                        "command",
                        name.chars, name.chars);
        if (*other)
                return error_set(
                        err, -EPERM,
                        "a host of another lineage of this cluster answers at %s: a second cluster of "
                        "the same ID would begin. If that host was recovered or restored, let this one "
                        "join it: systemctl stop fleetd; fleetd --reset; systemctl start fleetd. If "
                        "not, stop fleetd on it, and repeat this command",
                        name.chars);
        if (silent)
                return error_set(
                        err, -EPERM,
                        "%s can be reached, and does not send its last entry: it has a leader, or runs an "
                        "older version. Run fleetctl status on %s: if it has a leader, nothing is lost. If "
                        "not, compare the lines of fleetctl recover there and here, stop fleetd on the host "
                        "with less, and repeat this command on the other one",
                        name.chars, name.chars);
        return 0;
}

/* Refuse a recovery of an attached host, and name those that have a copy of the tree. A host whose replica
 * has failed is one of these. */
static int recover_check_copy(const Recovery *r, Error *err) {
        _cleanup_text_ Text names = {};

        if (!streq(member_text(r->cluster, "role"), "attached"))
                return 0;
        JSON_EACH(m, json_value_member(r->cluster, "voters")) {
                if (streq(member_text(m, "id"), member_text(r->cluster, "machine")))
                        return 0;
                text_printable(&names, "%s%s", m_i > 0 ? ", " : ": ", member_label(m));
        }
        TRY(names.error);
        return error_set(
                err, -EPERM,
                "this host is attached: it has no copy of the tree. Run fleetctl recover on a host that "
                "has one%s",
                names.chars ?: "");
}

static int recover_explain(Recovery *r, Error *err) {
        _cleanup_text_ Text t = {};
        const JsonValue *best, *silent = NULL;

        if (!r->cluster) {
                client_note(
                        "fleetd does not answer on this host: its other voters are unknown. If it is only "
                        "stopped, "
                        "start it first (systemctl start fleetd), and repeat this command: it is rejected "
                        "while a majority answers");
        } else if (majority_answers(r->cluster)) {
                return error_set(
                        err, -EBUSY,
                        "a majority of the voters answers: nothing is lost, and a recovery would divide the "
                        "cluster; see fleetctl status");
        } else {
                TRY(recover_check_copy(r, err));
                text_printable(&t,
                               "This host, %s, has index %llu, and as its last entry %llu, term %llu. The "
                               "other replicas:",
                               r->name, (unsigned long long) member_number(r->cluster, "index"),
                               (unsigned long long) (member_number(r->cluster, "lastIndex") ?:
                                                             member_number(r->cluster, "raftIndex")),
                               (unsigned long long) (member_number(r->cluster, "lastTerm") ?:
                                                             member_number(r->cluster, "term")));
                TRY(output_built(&t));
                r->alone = json_value_count(json_value_member(r->cluster, "voters")) == 1;
                best = print_others(r, &silent);
                TRY(output_flush());
                TRY(recover_check(r, best, silent, err));
        }
        printf("A recovery makes this host a cluster of one with its own keys:\n"
               "- Changes that only the lost hosts have are lost. Recover on the host with the highest term "
               "and entry.\n"
               "- The other hosts are rejected; they join again after: systemctl stop fleetd; fleetd "
               "--reset; systemctl "
               "start fleetd\n"
               "- Watchers of keys have to read them again. No unit is touched.\n");
        return output_flush();
}

static int recover_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(recovery_done) Recovery recovery = { .client = c };

        TRY(recovery_begin(&recovery, err));
        TRY(recover_wait(&recovery, err));
        TRY(recover_explain(&recovery, err));
        return recovery_is_confirmed(&recovery) ?
                       recovery_run(&recovery, "fleetd --recover --force", NULL, NULL) :
                       EXIT_FAILED;
}

/* -- restore -- */

static const char RESTORE_SCRIPT[] = "fleetd --restore=\"$1\" ${2:+--cluster-key=\"$2\"}";
static const char VERIFY_SCRIPT[] = "fleetd --verify=\"$1\" ${2:+--cluster-key=\"$2\"} >/dev/null";
static const char DRY_RUN_SCRIPT[] =
        "fleetd --restore=\"$1\" --dry-run ${2:+--cluster-key=\"$2\"} >/dev/null";

/* Verify the backup, and that this host has no state of a cluster. Return an exit status. */
static int restore_check(const Recovery *r, const char *file, const char *keys, Error *err) {
        if (r->cluster)
                return error_set(err, -EEXIST,
                                 "this host has state: cluster %s at index %llu. If it may be replaced: "
                                 "systemctl stop "
                                 "fleetd; fleetd --reset; then repeat this command",
                                 member_text(r->cluster, "clusterId"),
                                 (unsigned long long) member_number(r->cluster, "index"));
        if (run_script(r->waits ? VERIFY_SCRIPT : DRY_RUN_SCRIPT, file, keys) == EXIT_DONE)
                return EXIT_DONE;
        client_note("nothing was changed");
        return EXIT_FAILED;
}

/* Print what the backup is of, and what its restore does. Return an exit status. */
static int restore_explain(Recovery *r, const char *file, const char *keys, Error *err) {
        _cleanup_backup_description_ BackupDescription d = {};
        _cleanup_text_ Text t = {};
        int e, status;

        e = TRY(backup_read(file, &d, err));
        status = restore_check(r, file, keys, err);
        if (status != EXIT_DONE)
                return status;
        if (e > 0)
                backup_append_description(&t, &d);
        else
                text_append(&t, "a former version wrote it, without a description");
        TRY(t.error);
        (void) output_line(t.chars);
        r->alone = e > 0 && d.n_hosts == 1;
        if (d.unconfirmed)
                client_note("not confirmed by a leader: the backup may lack writes that were acknowledged "
                            "before it");
        printf("A restore makes this host, %s, a cluster of one with the keys of that backup:\n"
               "- All later changes are lost.\n"
               "- The other hosts of the cluster return after: systemctl stop fleetd; fleetd --reset; "
               "systemctl start "
               "fleetd.\n"
               "  One that has lost /var/lib/fleet joins with a token of this host (fleetctl join):\n"
               "  fleetctl token --replace=HOST; with a new machine ID: fleetctl token.\n"
               "- No unit is stopped. A unit whose text was changed later is restarted with the text of the "
               "backup.\n"
               "- A unit that was stopped or destroyed later is started again.\n"
               "- Hosts that were removed and users that were revoked after the backup are valid again. "
               "Remove and revoke\n"
               "  them before you start fleetd on another host. Tokens are void: make new ones.\n",
               r->name);
        return output_flush();
}

/* Print on which machines units stay with their data, as soon as fleetd answers: a host that has not reported
 * may have newer data. */
static void restore_print_data(Client *c) {
        _cleanup_json_ JsonValue *data = NULL;

        for (unsigned i = 0; i < WAIT_MAX_MS / RECOVER_POLL_MS && !client_next_data(c, "", "", &data); i++)
                (void) usleep(RECOVER_POLL_MS * 1000);
        do
                JSON_EACH(unit, json_value_member(data, "units")) {
                        _cleanup_text_ Text t = {};

                        if (!member_bool(unit, "sticky"))
                                continue;
                        text_printable(&t, "%s stays on %s, where its data is", member_text(unit, "name"),
                                       member_text(unit, "machine"));
                        (void) output_line(t.chars ?: "");
                }
        while (client_next_data(c, "", "", &data));
}

static int restore_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(recovery_done) Recovery recovery = { .client = c };
        const char *cluster_key = c->options.cluster_key;
        _cleanup_free_ char *file = NULL, *keys = NULL;
        int status;

        if (n == 0 && c->options.yes_name)
                return client_usage(
                        "restore: expected one file, of fleetctl backup; the value of --yes is the "
                        "name of this machine: fleetctl restore --yes=NAME FILE");
        if (n != 1)
                return client_usage("restore: expected one file, of fleetctl backup");
        file = realpath(args[0], NULL);
        if (!file)
                return error_set(err, -errno, "Failed to open %s: %s", args[0], strerror(errno));
        keys = cluster_key ? realpath(cluster_key, NULL) : NULL;
        if (cluster_key && !keys)
                return error_set(err, -errno, "Failed to open %s: %s", cluster_key, strerror(errno));
        TRY(recovery_begin(&recovery, err));
        TRY_DONE(restore_explain(&recovery, file, keys, err));
        if (!recovery_is_confirmed(&recovery))
                return EXIT_FAILED;
        status = recovery_run(&recovery, RESTORE_SCRIPT, file, keys);
        if (status == EXIT_DONE)
                restore_print_data(c);
        return status;
}

/* -- backup --cluster-key -- */

int recover_write_keys(Client *c, const char *file, Error *err) {
        _cleanup_(recovery_done) Recovery recovery = { .client = c };

        TRY(recovery_begin(&recovery, err));
        if (run_script("sh -c 'command -v fleetd >/dev/null'", NULL, NULL) != EXIT_DONE)
                return error_set(err, -ENOENT,
                                 "no fleetd is installed here: --cluster-key reads and writes files of the "
                                 "host; run fleetctl backup --cluster-key=%s on the host",
                                 file);
        if (!client_confirm(c, "Write it?",
                            "%s will have the cluster keys: with a backup, they open the certificate "
                            "authority of the "
                            "cluster, and with it every host. Keep it apart from the backups.",
                            file))
                return EXIT_FAILED;
        return run_script("fleetd --backup-cluster-key=\"$1\"", file, NULL);
}

VERB(recover, "recover", "", "", "Make this host a cluster of one after a lost majority",
     "Run as root on the host with the highest entry, when a majority of the voters is lost for good.\n"
     "Prints what is lost and which hosts return, asks for the name of the machine, stops fleetd, makes\n"
     "the replica of this host the cluster, and starts fleetd. No unit is touched. Refused while a\n"
     "majority answers.\n",
     recover_run);

VERB(restore, "restore", "", "FILE", "Make this host a cluster of one from a backup",
     "Run as root on a host without state. Verifies the file, prints what is lost, asks for the name\n"
     "of the machine, stops fleetd, restores the backup, and starts fleetd. No unit is stopped.\n\n"
     "fleetctl restore /root/fleet.backup\n",
     restore_run);
