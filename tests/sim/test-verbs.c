/* Each verb of recovery on each former state of a host: a restore, a recovery, a join, a leave and fleetd
 * --reset of a host that is new, a member, has left, was removed, wiped, or restored before. Whole daemons
 * with certificates and their API. After each of them the host runs a unit, or it has named the command that
 * goes on, which is run. The table has the outcome of each cell.
 *
 *      test-verbs [--seed N] [--runs N] [--trace]
 */

#include "tests/lib/scratch.h"
#include "tests/sim/tokens.h"

typedef enum Former {
        FORMER_NEW,
        FORMER_MEMBER,
        FORMER_LEFT,
        FORMER_REMOVED,
        FORMER_WIPED,    /* its state directory is lost; its cluster file is there */
        FORMER_RESTORED, /* from a backup of the cluster of which it was a member, which runs on without it */
        _FORMER_MAX,
} Former;

typedef enum Verb { VERB_RESTORE, VERB_RECOVER, VERB_JOIN, VERB_LEAVE, VERB_RESET, _VERB_MAX } Verb;

typedef enum End {
        END_ALONE,  /* it is a cluster of one */
        END_MEMBER, /* of the cluster of the other host */
        END_WAITS,  /* its problem names fleetctl token, which makes it a member */
} End;

#define RESET "which a backup does not replace; to move it to old/: systemctl stop fleetd; fleetd --reset"
#define LAST  "no other host is up that stays in the cluster; let another one join first (fleetctl token)"
#define AGAIN "systemctl stop fleetd; fleetd --reset; systemctl start fleetd"

static const struct {
        const char *says; /* in the refusal; NULL: it is not refused. A restore is repeated after a reset */
        End end;
} cells[_FORMER_MAX][_VERB_MAX] = {
        [FORMER_NEW] = { [VERB_RESTORE] = { RESET, END_ALONE },
                         [VERB_RECOVER] = { NULL, END_ALONE },
                         [VERB_JOIN] = { NULL, END_MEMBER },
                         [VERB_LEAVE] = { LAST ", or give up its units and keys: " AGAIN, END_ALONE },
                         [VERB_RESET] = { NULL, END_ALONE } },
        [FORMER_MEMBER] = { [VERB_RESTORE] = { RESET, END_ALONE },
                            [VERB_RECOVER] = { NULL, END_ALONE },
                            [VERB_JOIN] = { "to leave it first: fleetctl leave", END_MEMBER },
                            [VERB_LEAVE] = { NULL, END_ALONE },
                            [VERB_RESET] = { NULL, END_MEMBER } },
        [FORMER_LEFT] = { [VERB_RESTORE] = { RESET, END_ALONE },
                          [VERB_RECOVER] = { NULL, END_ALONE },
                          [VERB_JOIN] = { NULL, END_MEMBER },
                          [VERB_LEAVE] = { LAST ", or give up its units and keys: " AGAIN, END_ALONE },
                          [VERB_RESET] = { NULL, END_ALONE } },
        [FORMER_REMOVED] = { [VERB_RESTORE] = { RESET, END_ALONE },
                             [VERB_RECOVER] = { NULL, END_ALONE },
                             [VERB_JOIN] = { NULL, END_MEMBER },
                             [VERB_LEAVE] = { "removed from the cluster: run fleetctl token", END_WAITS },
                             [VERB_RESET] = { NULL, END_WAITS } },
        [FORMER_WIPED] = { [VERB_RESTORE] = { NULL, END_ALONE },
                           [VERB_RECOVER] = { "restore a backup (fleetctl restore FILE)", END_WAITS },
                           [VERB_JOIN] = { NULL, END_MEMBER },
                           [VERB_LEAVE] = { "run fleetctl token --replace=h2", END_WAITS },
                           [VERB_RESET] = { NULL, END_WAITS } },
        [FORMER_RESTORED] = { [VERB_RESTORE] = { RESET, END_ALONE },
                              [VERB_RECOVER] = { NULL, END_ALONE },
                              [VERB_JOIN] = { "to give up that one first: " AGAIN, END_ALONE },
                              [VERB_LEAVE] = { LAST ", or give up its units and keys: " AGAIN, END_ALONE },
                              [VERB_RESET] = { NULL, END_MEMBER } },
};

static SimMachine *other, *host; /* the cluster is one of 'other'; 'host' has the former state */
static char *scratch, *backup;
static char said[2048]; /* the last refusal; "": none */

/* -- Requests to the API of a host, as those of fleetctl on it -- */

typedef struct Ask {
        Stream *stream;
        Text request, answer;
        bool ended;
} Ask;

static SimHost *network_card; /* of the requests */
static WorldLoop *loop;

static void ask_on_read(void *userdata, const void *bytes, size_t size) {
        Ask *a = userdata;

        text_append_bytes(&a->answer, bytes, size);
        if (size == 0)
                stream_close(a->stream);
}

static void ask_on_close(void *userdata, int error, const char *reason) {
        ((Ask *) userdata)->ended = true;
}

static void ask_on_connected(void *userdata, Stream *s, int error) {
        static const StreamEvents events = { .on_read = ask_on_read, .on_close = ask_on_close };
        Ask *a = userdata;

        if (!s)
                world_failed(world, "the-api-listens", "%s", strerror(-error));
        a->stream = s;
        stream_set_events(s, &events, a);
        stream_pause(s, false);
        (void) stream_write(s, a->request.chars, a->request.size);
}

/* Send a request without a body, and return the status. */
static int ask(const char *method, const char *path) {
        Network *network = sim_host_network(network_card, loop);
        char address[64];
        int error = 0, status = 0;
        Ask a = {};

        text_printf(&a.request, "%s /fleet/v1/%s HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n\r\n",
                    method, path);
        snprintf(address, sizeof(address), "%s:80", host->address);
        if (!network->ops->connect(network, address, 1000, ask_on_connected, &a, &error))
                abort();
        UNTIL("a-request-is-answered", a.ended);
        if (a.answer.size == 0 || sscanf(a.answer.chars, "HTTP/1.1 %d", &status) != 1)
                abort();
        snprintf(said, sizeof(said), "%s", status >= 400 ? a.answer.chars : "");
        text_done(&a.request);
        text_done(&a.answer);
        return status;
}

/* -- Former states -- */

static bool is_alone(void) {
        return is_ready(host) && state_of(host).role == KV_ROLE_LEADER && state_of(host).n_members == 1;
}

static void maintain(SimMachine *m, SimMaintenance what) {
        Error err = {};
        int r = machine_maintain(m, what, backup, &err);

        snprintf(said, sizeof(said), "%s", r < 0 ? error_text(&err, r) : "");
}

static void expect_done(const char *what) {
        if (said[0])
                world_failed(world, what, "%s", said);
}

/* As fleet-recovery(7) has it: the daemons are stopped, and a state of the host is moved away if it has one.
 */
static void restore(void) {
        char refusal[sizeof(said)];

        (void) unlink(backup);
        stop_host(other);
        maintain(other, MAINTAIN_BACKUP);
        expect_done("a-stopped-host-is-backed-up");
        stop_host(host);
        maintain(host, MAINTAIN_RESTORE);
        memcpy(refusal, said, sizeof(refusal));
        if (refusal[0]) {
                maintain(host, MAINTAIN_RESET);
                expect_done("a-state-is-moved-away");
                maintain(host, MAINTAIN_RESTORE);
                expect_done("a-backup-is-restored");
        }
        machine_start_daemon(host);
        UNTIL("a-restored-host-leads", is_alone());
        memcpy(said, refusal, sizeof(said));
}

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status != KV_OK)
                world_failed(world, "a-change-is-made", "%s", message);
}

static void stop_waiting(void) {
        if (registry_cluster(daemon_host(host->daemon)->registry)->adopting &&
            registry_adopt_now(daemon_host(host->daemon)->registry, NULL, on_done, NULL) < 0)
                abort();
        UNTIL("the-wait-ends", !registry_cluster(daemon_host(host->daemon)->registry)->adopting);
}

static void join_other(const char *replace) {
        MadeToken token = make_token(other, replace);

        join_with(host, &token);
        UNTIL("a-host-is-a-member", is_member(other, host));
        run_ms(3000);
}

static void remove_host(void) {
        machine_power_cut(host);
        UNTIL("a-silent-host-is-lost", seen(other, host)->presence == PRESENCE_LOST);
        if (registry_remove_machine(daemon_host(other->daemon)->registry, seen(other, host), "root", NULL,
                                    on_done, NULL) < 0)
                abort();
        UNTIL("a-host-is-removed", seen(other, host)->removed);
        machine_power_on(host);
        UNTIL("a-removed-host-reports-it", strstr(state_of(host).problem, "was removed"));
}

static void become(Former former) {
        found(2, 1);
        other = machine(0);
        host = machine(1);
        network_card = sim_host_new(cluster->net, "10.9.9.9");
        loop = world_loop_new(world, "client");
        scratch = scratch_new();
        backup = scratch_path(scratch, "backup");
        for (unsigned i = 0; i < 2; i++) /* the other one does not run during a restore */
                machine_suspect(machine(i), world_now_ms(world), UINT64_MAX);
        if (former != FORMER_NEW)
                join_other(NULL);
        switch (former) {
        case FORMER_LEFT:
                (void) ask("POST", "cluster/leave");
                expect_done("a-member-leaves");
                UNTIL("a-host-has-left", is_alone() && seen(other, host)->removed);
                break;
        case FORMER_REMOVED:
                remove_host();
                break;
        case FORMER_WIPED:
                stop_host(host);
                machine_wipe(host, WIPE_STATE);
                machine_start_daemon(host);
                break;
        case FORMER_RESTORED:
                restore();
                machine_power_cut(other);
                stop_waiting();
                UNTIL("the-other-host-is-lost", seen(host, other)->presence == PRESENCE_LOST);
                machine_power_on(other);
                UNTIL("the-other-host-is-a-cluster", is_ready(other));
                break;
        default:
                break;
        }
}

static void over(void) {
        sim_host_reset(network_card, true);
        cluster = cluster_free(cluster);
        loop = world_loop_free(loop);
        free(backup);
        scratch = scratch_free(scratch);
}

/* -- Verbs -- */

static void act(Verb verb, const char *replace) {
        MadeToken token;

        said[0] = 0;
        switch (verb) {
        case VERB_RESTORE:
                restore();
                break;
        case VERB_JOIN:
                token = make_token(other, replace);
                UNTIL("a-host-serves", serves(host));
                user_of(host)->keeps = true; /* no state of it needs --discard */
                if (command(host, false, token.text))
                        UNTIL("a-join-ends", !user_of(host)->pending);
                snprintf(said, sizeof(said), "%s", user_of(host)->stored ? "" : user_of(host)->message);
                break;
        case VERB_LEAVE:
                (void) ask("POST", "cluster/leave");
                break;
        default: /* a recovery is for a lost majority */
                if (verb == VERB_RECOVER)
                        stop_host(other);
                stop_host(host);
                maintain(host, verb == VERB_RECOVER ? MAINTAIN_RECOVER : MAINTAIN_RESET);
                machine_start_daemon(host);
        }
}

static void check_end(End end, const char *replace) {
        char text[128];

        run_ms(5000);
        if (end == END_WAITS) {
                if (is_ready(host) || !strstr(state_of(host).problem, "fleetctl token"))
                        world_failed(world, "a-host-that-waits-names-the-command", "%s",
                                     state_of(host).problem);
                if (!other->loop)
                        machine_start_daemon(other);
                join_other(replace);
        }
        if (end == END_ALONE) {
                UNTIL("a-host-is-alone", is_alone());
                stop_waiting();
        } else
                UNTIL("a-host-is-a-member", is_member(other, host));
        snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineID=%s\n",
                 host->machine_id);
        launch(host, "a.service", text);
}

static void each_verb_on_each_former_state(void) {
        for (Former former = 0; former < _FORMER_MAX; former++)
                for (Verb verb = 0; verb < _VERB_MAX; verb++) {
                        const char *says = cells[former][verb].says, *replace;

                        world_trace(world, "test", "state %d, verb %d", former, verb);
                        become(former);
                        replace = former == FORMER_WIPED ? host->machine_id : NULL;
                        act(verb, replace);
                        if (says ? !strstr(said, says) : said[0] != 0)
                                world_failed(world, "the-table-has-the-outcome", "state %d, verb %d: '%s'",
                                             former, verb, said);
                        check_end(cells[former][verb].end, replace);
                        over();
                }
}

/* -- What ends with the departure of the host, and what does not -- */

/* A leave cannot end while a unit of the host fits on no other one. */
static void a_leave_under_way_ends_with_its_lineage(void) {
        for (Verb verb = VERB_RESTORE; verb <= VERB_RECOVER; verb++) {
                char text[128];

                become(FORMER_MEMBER);
                snprintf(text, sizeof(text),
                         "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineID=%s\n", host->machine_id);
                launch(host, "stays.service", text);
                (void) ask("POST", "cluster/leave");
                expect_done("a-member-leaves");
                UNTIL("a-host-is-leaving", cluster_machine_is_leaving(seen(other, host)));
                act(verb, NULL);
                check_end(END_ALONE, NULL);
                over();
        }
}

static void on_put(void *userdata, const KvResult *result) {
        *(bool *) userdata = result->status == KV_OK;
}

static void the_key_of_a_compromised_host_stays_denied(void) {
        char key[LAYOUT_KEY_MAX], pin[DIGEST_SIZE] = "", value[256];
        KvCommand cmd = { .op = KV_SET, .internal = true };
        bool done = false;

        become(FORMER_REMOVED);
        read_pin(host, pin);
        snprintf(value, sizeof(value), "{\"pin\":\"%s\",\"reason\":\"compromised\",\"since\":1}", pin);
        cmd.key = kv_string(layout_key(key, LAYOUT_REMOVED, NULL, host->machine_id));
        cmd.value = kv_string(value);
        if (kv_propose(daemon_host(other->daemon)->store, &cmd, on_put, &done, NULL) < 0)
                abort();
        UNTIL("a-key-is-written", done);
        restore();
        if (!cluster_is_denied(registry_cluster(daemon_host(host->daemon)->registry), pin) ||
            seen(host, host)->removed)
                world_failed(world, "a-compromised-key-stays-denied", "%s", pin);
        over();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = {
                each_verb_on_each_former_state,
                a_leave_under_way_ends_with_its_lineage,
                the_key_of_a_compromised_host_stays_denied,
        };

        api_listens = true;
        return tokens_main(argc, argv, "tests/sim/test-verbs", scenarios, ELEMENTS(scenarios), NULL,
                           "each verb of recovery goes on from each state of a host");
}
