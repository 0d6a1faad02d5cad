/* recover and restore: make this host a cluster of one, from its own replica or from a backup. They run as
 * root on that host: ask the daemon, say what is lost and which hosts return, ask for the name of the
 * machine, stop fleetd.service, let fleetd do the work, and start it again.
 *
 * A crash before fleetd has renamed the new tree leaves the host as it was; after it, the host is a cluster
 * of one. In both cases the service has to be started, which a repeated command, or the boot, does. */
#include <limits.h>
#include <stdlib.h>

#include "client/backup.h"
#include "client/subprocess.h"

typedef struct Recovery {
        Client *client;
        JsonValue *cluster; /* the answer of the daemon; NULL: it does not answer */
        char hostname[HOST_NAME_MAX + 1];
        const char *name; /* of this machine; borrowed */
        bool alone;       /* no other host is known to have been in the cluster */
} Recovery;

static int recovery_begin(Recovery *r, Error *err) {
        int e;

        if (geteuid() != 0)
                return error_set(err, -EPERM, "%s replaces the state of this host: run it there as root",
                                 r->client->verb->name);
        if (!starts_with(r->client->options.endpoint, "unix://") || *r->client->options.tunnel)
                return error_set(err, -EINVAL, "%s works on this host only: omit --endpoint and --tunnel",
                                 r->client->verb->name);
        e = client_get_json(r->client, "/fleet/v1/cluster", &r->cluster, err);
        if (e == -ENOMEM || e == -EACCES)
                return e;
        (void) gethostname(r->hostname, sizeof(r->hostname) - 1);
        r->name = r->cluster ? member_name(r->cluster, "name") : "";
        if (!*r->name)
                r->name = r->hostname;
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

/* Run a command with fleetd of this host in the path of root. Return its exit status. */
static int run_script(const char *script, const char *argument) {
        _cleanup_free_ char *all = NULL;

        if (asprintf(&all, "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; exec %s", script) < 0) {
                all = NULL;
                return EXIT_FAILED;
        }
        return subprocess_run((const char *[]) { "sh", "-c", all, "sh", argument, NULL },
                              (const char *[]) { ENV_FLEETCTL, "yes", NULL }, NULL, NULL, NULL);
}

/* Print the steps that remain. A second reset would delete the state that the first one has kept. */
static void recovery_print_rest(const Recovery *r) {
        client_note("fleetd runs. Units are not touched; until all hosts have reported theirs, or for five "
                    "minutes, none is started, stopped or moved (fleetctl cluster)");
        if (!r->alone)
                client_note(
                        "each other host that has not been reset: systemctl stop fleetd; fleetd --reset; "
                        "systemctl start fleetd; one that has been reset, and is stopped: systemctl start "
                        "fleetd");
}

/* Stop the service, run 'script', and start the service, also after a failure, which has changed nothing. */
static int recovery_run(const Recovery *r, const char *script, const char *argument) {
        int status;

        if (run_script("systemctl stop fleetd.service", NULL) != EXIT_DONE) {
                client_note("fleetd.service was not stopped; nothing was changed");
                return EXIT_FAILED;
        }
        status = run_script(script, argument);
        if (run_script("systemctl start fleetd.service", NULL) != EXIT_DONE) {
                client_note(
                        "fleetd.service was not started: journalctl -u fleetd; then systemctl start fleetd");
                return EXIT_FAILED;
        }
        if (status != EXIT_DONE) {
                client_note("the state of this host was not changed; fleetd runs again");
                return EXIT_FAILED;
        }
        recovery_print_rest(r);
        return EXIT_DONE;
}

/* -- recover -- */

/* Return whether a majority of the voters answers. */
static bool majority_answers(const JsonValue *cluster) {
        const JsonValue *members = json_value_member(cluster, "voters");
        size_t n = 0, n_reachable = 0;

        for (size_t i = 0; i < json_value_count(members); i++) {
                const JsonValue *m = json_value_item(members, i);

                if (!streq(member_text(m, "seat"), "voter"))
                        continue;
                n++;
                n_reachable += member_bool(m, "reachable");
        }
        return n > 0 && n_reachable > n / 2;
}

/* Print the other hosts, and whether this one reaches them. */
static void print_others(const Recovery *r) {
        const JsonValue *members = json_value_member(r->cluster, "voters");
        const char *self = member_text(r->cluster, "machine");

        for (size_t i = 0; i < json_value_count(members); i++) {
                const JsonValue *m = json_value_item(members, i);
                _cleanup_text_ Text t = {};

                if (streq(member_text(m, "id"), self))
                        continue;
                text_append(&t, "  ");
                text_append_printable(&t, *member_name(m, "name") ? member_name(m, "name") :
                                                                    member_text(m, "address"));
                text_append(&t, "  ");
                text_append_printable(&t, member_text(m, "seat"));
                text_append(&t, member_bool(m, "reachable") ?
                                        ", reachable: compare its last index before you continue" :
                                        ", lost");
                if (t.error == 0)
                        (void) output_line(t.chars);
        }
}

static int recover_explain(Recovery *r, Error *err) {
        _cleanup_text_ Text t = {};

        if (!r->cluster) {
                client_note("fleetd does not answer on this host: its other voters are unknown");
        } else if (majority_answers(r->cluster)) {
                return error_set(
                        err, -EBUSY,
                        "a majority of the voters answers: nothing is lost, and a recovery would divide the "
                        "cluster; see fleetctl status");
        } else {
                text_append(&t, "This host, ");
                text_append_printable(&t, r->name);
                text_printf(&t, ", has index %llu (Raft's entry %llu, term %llu). The other replicas:",
                            (unsigned long long) member_number(r->cluster, "index"),
                            (unsigned long long) member_number(r->cluster, "raftIndex"),
                            (unsigned long long) member_number(r->cluster, "term"));
                if (t.error < 0)
                        return t.error;
                (void) output_line(t.chars);
                r->alone = json_value_count(json_value_member(r->cluster, "voters")) == 1;
                print_others(r);
        }
        printf("A recovery makes this host a cluster of one with its own keys:\n"
               "- Changes that only the lost hosts have are lost. Recover on the host with the highest entry "
               "and "
               "term.\n"
               "- The other hosts are rejected; they join again after: systemctl stop fleetd; fleetd "
               "--reset; systemctl "
               "start fleetd\n"
               "- Watchers of keys have to read them again. No unit is touched.\n");
        return output_flush();
}

int verb_recover(Client *c, char **args, size_t n, Error *err) {
        Recovery recovery = { .client = c };
        int r;

        r = recovery_begin(&recovery, err);
        if (r >= 0)
                r = recover_explain(&recovery, err);
        if (r >= 0)
                r = recovery_is_confirmed(&recovery) ?
                            recovery_run(&recovery, "fleetd --recover --force", NULL) :
                            EXIT_FAILED;
        json_value_free(recovery.cluster);
        return r;
}

/* -- restore -- */

static int restore_explain(Recovery *r, const char *file, Error *err) {
        _cleanup_backup_description_ BackupDescription d = {};
        _cleanup_text_ Text t = {};
        int e;

        e = backup_read(file, &d, err);
        if (e < 0)
                return e;
        if (r->cluster)
                return error_set(err, -EEXIST,
                                 "this host has state: cluster %s at index %llu. If it may be replaced: "
                                 "systemctl stop "
                                 "fleetd; fleetd --reset; then repeat this command",
                                 member_text(r->cluster, "clusterId"),
                                 (unsigned long long) member_number(r->cluster, "index"));
        if (e > 0)
                backup_append_description(&t, &d);
        else
                text_append(&t, "a former version wrote it, without a description");
        if (t.error < 0)
                return t.error;
        (void) output_line(t.chars);
        r->alone = e > 0 && d.n_hosts == 1;
        if (d.unconfirmed)
                client_note("not confirmed by a leader: the backup may lack writes that were acknowledged "
                            "before it");
        printf("A restore makes this host, %s, a cluster of one with the keys of that backup:\n"
               "- All later changes are lost.\n"
               "- The other hosts of the cluster return after: systemctl stop fleetd; fleetd --reset; "
               "systemctl start "
               "fleetd\n"
               "- No unit is stopped. A unit whose text was changed later is restarted with the text of the "
               "backup.\n",
               r->name);
        return output_flush();
}

int verb_restore(Client *c, char **args, size_t n, Error *err) {
        Recovery recovery = { .client = c };
        _cleanup_free_ char *file = NULL;
        int r;

        if (n != 1)
                return client_usage("restore: expected one file, of fleetctl backup");
        file = realpath(args[0], NULL);
        if (!file)
                return error_set(err, -errno, "Failed to open %s: %s", args[0], strerror(errno));
        r = recovery_begin(&recovery, err);
        if (r >= 0)
                r = restore_explain(&recovery, file, err);
        if (r >= 0)
                r = recovery_is_confirmed(&recovery) ?
                            recovery_run(&recovery, "fleetd --restore=\"$1\"", file) :
                            EXIT_FAILED;
        json_value_free(recovery.cluster);
        return r;
}
