/* join: make this host a member of a cluster. */
#include <fcntl.h>
#include <time.h>

#include "base/file.h"
#include "client/core/machines.h"
#include "client/verbs/init.h"
#include "client/verbs/overview.h"
#include "units/token.h"

enum {
        TOKEN_FILE_MAX = 4096,
        JOIN_UP_S = 60,
        JOIN_REPLICA_S = 15, /* in which a cluster of few members gives a new host a replica */
        MEMBERS_MANY = 5,    /* three voters and two standbys: further hosts are attached */
};

/* -- The token -- */

static int token_from(const char *name, int fd, Text *ret, Error *err) {
        char bytes[TOKEN_FILE_MAX];
        ssize_t n = 1;

        while (n != 0) {
                n = read(fd, bytes, sizeof(bytes));
                if (n < 0 && errno != EINTR)
                        return error_set(err, -errno, "Failed to read %s: %s", name, strerror(errno));
                if (n > 0)
                        text_append_bytes(ret, bytes, n);
                if (ret->size > TOKEN_FILE_MAX)
                        return error_set(err, -EINVAL, "%s: expected a token on one line", name);
        }
        explicit_bzero(bytes, sizeof(bytes));
        TRY(ret->error);
        if (ret->size == 0)
                return error_set(err, -EINVAL, "%s: expected a token on one line, but got nothing", name);
        ret->size = strcspn(ret->chars, "\r\n");
        ret->chars[ret->size] = 0;
        return 0;
}

/* Take the token from the argument, which is wiped, so that ps does not show it any longer; from standard
 * input; or from a file. */
static int join_take_token(Client *c, char **args, size_t n, Text *ret, Error *err) {
        const char *file = c->options.token_file;
        _cleanup_close_ int fd = -1;

        if (n + (file != NULL) != 1)
                return error_set(err, -EINVAL,
                                 "join: expected one token, \"-\" for standard input, or --token-file=; on a "
                                 "host of the cluster: fleetctl token");
        if (file) {
                fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
                return fd < 0 ? error_set(err, -errno, "Failed to open %s: %s", file, strerror(errno)) :
                                token_from(file, fd, ret, err);
        }
        if (streq(args[0], "-"))
                return token_from("standard input", STDIN_FILENO, ret, err);
        text_append(ret, args[0]);
        explicit_bzero(args[0], strlen(args[0]));
        return ret->error;
}

/* -- After the answer: the daemon restarts itself, and enters the cluster -- */

/* Return whether this member is the one that this host replaces: it has its name or address, or no name any
 * more. */
static bool is_predecessor(const JsonValue *member, const JsonValue *self, const char *own_name) {
        const char *name = member_text(member, "name"), *address = member_text(member, "address");

        return !*name || streq(name, address) || streq(name, own_name) ||
               (*address && streq(address, member_text(self, "address")));
}

/* What a host that has joined prints. */
typedef struct JoinNames {
        Text others; /* the other members */
        Text dead;   /* the first voter of them that is lost, as an argument; empty: none is */
} JoinNames;

static void join_names_done(JoinNames *names) {
        text_done(&names->others);
        text_done(&names->dead);
}

static void join_add_name(JoinNames *names, const JsonValue *member, const ApiMachine *m) {
        const char *name = member_name(member, "name");
        bool lost = m && same_string(m->presence, "lost");

        text_printable(&names->others, "%s%s", names->others.size > 0 ? ", " : "", name);
        if (m && m->presence && !streq(m->presence, "up"))
                text_printf(&names->others, " (%s)", presence_word(m->presence));
        if (lost && member_is_voter(member) && names->dead.size == 0)
                text_append_printable(&names->dead, name);
}

/* Return whether this host has a replica in the cluster, or is attached, and knows a leader. 'early': a small
 * cluster is about to give it a replica. */
static bool join_is_up(Client *c, const char *machine, const char *cluster, bool early, JoinNames *ret) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *members, *self = NULL;
        _cleanup_listing_ Listing machines = {};

        if (client_get_json(c, "/fleet/v1/cluster", &root, NULL) < 0 ||
            !streq(cluster, member_short_id(root, "clusterId")) || !json_value_member(root, "leader"))
                return false;
        text_clear(&ret->others);
        text_clear(&ret->dead);
        members = json_value_member(root, "voters");
        JSON_EACH(item, members)
                if (streq(member_text(item, "id"), machine))
                        self = item;
        JSON_EACH(member, members) {
                if (member == self || is_predecessor(member, self, member_text(root, "name")))
                        continue;
                client_load_machine(c, &machines, member_text(member, "id"), true);
                join_add_name(ret, member, listing_machine(&machines, member_text(member, "id")));
        }
        early = early && json_value_count(members) < MEMBERS_MANY;
        return self || (streq(member_text(root, "role"), "attached") && !early);
}

static int join_wait(Client *c, const JsonValue *answer, JoinNames *ret) {
        const char *machine = member_text(answer, "machine"), *cluster = member_short_id(answer, "cluster");
        time_t begin = time(NULL), end = begin + JOIN_UP_S;

        while (!join_is_up(c, machine, cluster, time(NULL) < begin + JOIN_REPLICA_S, ret)) {
                if (time(NULL) >= end)
                        return -ETIMEDOUT;
                (void) usleep(INIT_POLL_MS * 1000);
        }
        return MIN(ret->others.error, ret->dead.error);
}

static int join_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(join_names_done) JoinNames names = {};
        _cleanup_text_ Text token = {}, entered = {};
        _cleanup_json_ JsonValue *answer = NULL;
        bool exposed = n > 0 && !streq(args[0], "-");
        Token read;
        int r;

        r = join_take_token(c, args, n, &token, err);
        if (r == -EINVAL)
                return client_usage(error_text(err, r));
        if (r >= 0)
                r = token_read(token.chars, &read, err); /* a message before any request */
        if (r >= 0) {
                explicit_bzero(&read, sizeof(read));
                r = init_request(c, "/fleet/v1/cluster/join", token.chars, exposed, &answer, err);
        }
        if (token.chars)
                explicit_bzero(token.chars, token.size);
        if (r < 0)
                return client_fail_after(r, err, "Failed to join: ");
        text_printable(&entered, "Certificate received through %s; entering cluster %s",
                       member_text(answer, "through"), member_text(answer, "cluster"));
        TRY(entered.error);
        puts(entered.chars);
        (void) fflush(stdout);
        r = join_wait(c, answer, &names);
        if (r == -ETIMEDOUT) {
                client_note("this host has its certificate, but is not up in the cluster after %d s; fleetd "
                            "continues: fleetctl cluster, journalctl -u fleetd",
                            JOIN_UP_S);
                return EXIT_FAILED;
        }
        if (r < 0)
                return r;
        printf("Joined: this host is up, with %s\n", names.others.chars ?: "");
        (void) fflush(stdout);
        if (names.dead.size > 0)
                client_note("voter %s is lost; if it does not return: fleetctl remove --force %s",
                            names.dead.chars, names.dead.chars);
        return EXIT_DONE;
}

VERB(join, "join", "", "TOKEN|-", "Make this host a member of a cluster",
     "The token is printed by fleetctl token on a host of the cluster; - reads it from standard input.\n"
     "Returns when this host is up in the cluster. Its units run on. Its former state, as a cluster\n"
     "of one, is moved to /var/lib/fleet/old; a host with units or keys of its own needs --discard.\n"
     "The host listens at the address that it uses towards the cluster, or at that of --listen.\n",
     join_run);
