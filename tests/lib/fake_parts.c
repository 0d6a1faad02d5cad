#include "tests/lib/fake_parts.h"

#include <fcntl.h>

#include "tests/lib/test.h"
#include "base/log.h"
#include "kvstore/apply/apply.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/entries.h"
#include "kvstore/raft/transfer.h"
#include "tests/lib/raft_names.h"
#include "tests/lib/replica_states.h"

FakeParts parts;
static char tree_at[PART_TREES], txn_at[PART_TREES], core_at, log_at, transfers_at, compare_at, peers_at;
static int disk_drop_caches(Disk *disk);
static int disk_space(Disk *disk, uint64_t *ret_free, uint64_t *ret_total);
static Disk disk = { .ops = &(DiskOps) { .drop_caches = disk_drop_caches, .space = disk_space } };

/* -- What is said -- */

void parts_say(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        text_vprintf(&fake.said, format, ap);
        va_end(ap);
        text_append_char(&fake.said, '\n');
}
#define say parts_say

void parts_expect(Said expected) {
        const char *is = fake.said.chars ?: "";

        if (!streq(is, expected.text) && getenv("EXPECT_ALL")) {
                fprintf(stderr, "@@@%u\n%s@@=\n%s@@.\n", expected.line, expected.text, is);
        } else if (!streq(is, expected.text))
                fail_msg("line %u: expected\n%sis\n%s", expected.line, expected.text, is);
        text_clear(&fake.said);
}

void parts_forget(void) {
        text_clear(&fake.said);
}

static void timer(const char *name, const Timer *t) {
        if (timer_armed(t))
                text_printf(&fake.said, " %s+%" PRId64, name, (int64_t) (t->due_ms - fake.now_ms));
}

static void number(const char *name, uint64_t n) {
        if (n != 0)
                text_printf(&fake.said, " %s %" PRIu64, name, n);
}

static void flag(const char *name, bool is) {
        if (is)
                text_printf(&fake.said, " %s", name);
}

static int number_of(const void *tree) {
        return tree ? (int) ((const char *) tree - tree_at) : -1;
}

void parts_look(void) {
        const Replica *p = parts.p;

        text_append(&fake.said, "=");
        flag("coreless", !p->core);
        flag("logless", !p->log);
        flag("log-closing", p->closing.log);
        number("pending", p->closing.pending);
        number("tree", p->trees.live ? (uint64_t) number_of(p->trees.live) : 99);
        if (p->trees.previous)
                text_printf(&fake.said, " shown %d (%" PRIu64 "%s)", number_of(p->trees.previous),
                            p->trees.previous_applied, p->trees.previous_wrong ? ", wrong" : "");
        if (p->error < 0)
                text_printf(&fake.said, " error %d \"%s\"", p->error, p->reason);
        flag(replica_state_name(p->state), p->state != REPLICA_OPEN);
        flag("exchange", p->recovery.with_received_tree);
        flag("damaged", p->recovery.damaged);
        flag("silent", p->contact.silent);
        flag("founded", p->founded);
        flag("not-started", !p->started);
        flag("not-serving", !p->in_service);
        flag("copying", p->checkpoints.copying);
        flag("probing", p->checkpoints.copying && p->checkpoints.probing);
        flag("copy-untold", !p->checkpoints.reported);
        flag("dropping", p->checkpoints.dropping);
        flag("replaced!", p->trees.replaced);
        flag("held", p->deferred.bytes);
        number("depth", p->depth);
        number("changed", p->changed);
        number("observed", p->contact.observed.id);
        number("observed-term", p->contact.observed.term);
        number("transfer-to", p->transfer.to);
        number("transfer-due", p->transfer.due_ms);
        number("waited", p->write_watch.waited_ms);
        number("entries", p->checkpoints.entries_since);
        number("bytes", p->checkpoints.bytes_since);
        number("previous", p->checkpoints.previous);
        number("durable", p->recovery.durable_index);
        number("attempts", p->recovery.n_attempts);
        number("back", p->recovery.recovered_ms);
        number("retry", p->checkpoints.retry_ms);
        number("forget", p->checkpoints.compact_bytes);
        number("id", p->identity.raft_id == 1 ? 0 : p->identity.raft_id + 1000);
        number("cluster", p->identity.cluster_id == 70 ? 0 : p->identity.cluster_id + 1000);
        timer("tick", &p->tick);
        timer("silence", &p->contact.silence);
        timer("stop", &p->recovery.transfer_timer);
        timer("comeback", &p->recovery.retry);
        timer("forget-again", &p->checkpoints.compact_again);
        flag("flush!", p->flush.loop);
        flag("apply!", p->applying.next.loop);
        flag("notice!", p->notices.send.loop);
        flag("stop!", p->recovery.stop.loop);
        flag("closed!", p->closing.deferred.loop);
        text_append(&fake.said, "\n");
}

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (fields->error != 0)
                say("log %d (%d): %s", priority, fields->error, message);
        else
                say("log %d: %s", priority, message);
}

/* -- What fails -- */

void parts_fail_after(const char *name, int error, unsigned skip) {
        for (size_t i = 0; i < ELEMENTS(parts.fails); i++)
                if (!parts.fails[i].name) {
                        parts.fails[i].name = name;
                        parts.fails[i].error = error;
                        parts.fails[i].skip = skip;
                        return;
                }
        fail_msg("too many failures");
}

void parts_fail(const char *name, int error) {
        parts_fail_after(name, error, 0);
}

static int result(const char *name) {
        for (size_t i = 0; i < ELEMENTS(parts.fails); i++)
                if (parts.fails[i].name && streq(parts.fails[i].name, name)) {
                        if (parts.fails[i].skip > 0) {
                                parts.fails[i].skip--;
                                return 0;
                        }
                        parts.fails[i].name = NULL;
                        return parts.fails[i].error;
                }
        return 0;
}

/* The same for a function that also sets a message. */
static int result_said(const char *name, Error *err) {
        int r = result(name);

        return r < 0 && !parts.no_message ? error_set(err, r, "%s did it", name) : r;
}

/* -- Beginning and ending -- */

static void on_news(void *userdata, const ReplicaNews *news) {
        if (news->replaced)
                say("replaced");
        say("flushed %u", news->changed);
        if (news->failed)
                say("failed %d: %s", parts.p->error, parts.p->reason);
}

void parts_begin_closed(void) {
        fake_begin("VVVs");
        fake.servers.items[3].role = RAFT_ROLE_SPARE;
        for (size_t i = 0; i < fake.servers.n; i++)
                fake.servers.items[i].address = (char *) "a:1";
        fake.commit = 12;
        parts = (FakeParts) { .state = RAFT_STATE_FOLLOWER,
                              .role = RAFT_ROLE_VOTER,
                              .leader = 2,
                              .term = 5,
                              .first = 1,
                              .last = 20,
                              .stored = 15,
                              .timeout_ms = UINT64_MAX,
                              .entry_bytes = PART_ENTRY,
                              .file_size = 8000,
                              .configuration_size = 4,
                              .log_last = 20,
                              .log_first = 1,
                              .log_entries = 20,
                              .meta = { .cluster = 70, .id = 1, .start_number = 3, .term = 5, .vote = 2 },
                              .space = { UINT64_MAX, UINT64_MAX },
                              .total = { UINT64_MAX, UINT64_MAX },
                              .handshake = { .raft_id = 2, .address = "b:2" },
                              .self = { .name = "self", .start_number = 1 },
                              .options = { .tree_path = "/tree",
                                           .log_disk = &disk,
                                           .peers = (Peers *) &peers_at,
                                           .machine_id = "m",
                                           .boot_id = "b",
                                           .hardware_id = "h",
                                           .address = "a:1",
                                           .quota = 1234,
                                           .election_ms = 400,
                                           .heartbeat_ms = 150,
                                           .checkpoint_entries = 1000,
                                           .checkpoint_kept = 500,
                                           .checkpoint_bytes = 100000,
                                           .memory_bytes = 4000,
                                           .log_file_size = 4096,
                                           .notify = on_news } };
        for (size_t i = 0; i < PART_TREES; i++)
                parts.trees[i] = (TreeMeta) { .applied = 10, .applied_term = 5, .configuration_index = 1 };
        log_set_sink(on_log, NULL);
        log_set_max_priority(LOG_DEBUG);
}

void parts_start(void) {
        Error err = {};

        assert_int_equal(replica_open(&parts.p, &fake.loop, &parts.options, false, &err), 0);
        assert_int_equal(replica_start(parts.p, &err), 0);
        fake_run();
        parts_forget();
}

void parts_begin(void) {
        parts_begin_closed();
        parts_start();
}

void parts_work(void) {
        Work *w = parts.works[0];

        assert_true(parts.n_works > 0);
        memmove(parts.works, parts.works + 1, --parts.n_works * sizeof(Work *));
        w->work(w->userdata);
        w->done(w->userdata);
        if (strstr(w->name, "copy_done") && parts.p->flush.loop) { /* a checkpoint is notified at once */
                deferred_cancel(&parts.p->flush);
                parts.p->flush.run(parts.p);
        }
}

void parts_end(void) {
        parts.p = replica_crash(parts.p);
        for (size_t i = 0; i < ELEMENTS(parts.fails); i++)
                if (parts.fails[i].name)
                        fail_msg("%s was to fail, and was not called", parts.fails[i].name);
        assert_int_equal(parts.n_txns, 0);
        log_set_sink(NULL, NULL);
        log_set_max_priority(LOG_INFO);
        fake_end();
}

/* -- The loop's work, and the disk -- */

#define WRAP(type, name, parameters)   \
        type __wrap_##name parameters; \
        type __wrap_##name parameters

WRAP(int, loop_work, (Loop * loop, Work *work)) {
        int r = result("loop_work");

        if (r < 0)
                return r;
        say("work %s nice %d", work->name, work->nice);
        assert_true(parts.n_works < ELEMENTS(parts.works));
        parts.works[parts.n_works++] = work;
        return 0;
}

static int disk_drop_caches(Disk *d) {
        say("disk drop-caches");
        return result("drop-caches");
}

static int disk_space(Disk *d, uint64_t *ret_free, uint64_t *ret_total) {
        *ret_free = parts.space[0];
        *ret_total = parts.total[0];
        return result("space");
}

/* -- The core -- */

#define ASKED(type, name, value)                   \
        WRAP(type, name, (const RaftCore *core)) { \
                return value;                      \
        }

ASKED(RaftState, raft_core_state, parts.state)
ASKED(RaftServerRole, raft_core_role, parts.role)
ASKED(uint64_t, raft_core_term, parts.term)
ASKED(uint64_t, raft_core_first_index, parts.first)
ASKED(uint64_t, raft_core_last_index, parts.last)
ASKED(uint64_t, raft_core_stored_index, parts.stored)
ASKED(uint64_t, raft_core_entries_bytes,
      (parts.last + 1 - parts.first) * parts.entry_bytes + parts.more_bytes)
ASKED(uint64_t, raft_core_timeout_ms, parts.timeout_ms)
ASKED(bool, raft_core_installing, parts.installing)
ASKED(bool, raft_core_is_behind, parts.behind)
ASKED(int, raft_core_error, parts.core_error)

WRAP(uint64_t, raft_core_leader, (const RaftCore *core)) {
        return parts.leader;
}

WRAP(int, raft_core_match_index, (const RaftCore *core, uint64_t id, uint64_t *ret)) {
        if (parts.match[id] == UINT64_MAX)
                return -ENOENT;
        *ret = parts.match[id];
        return 0;
}

WRAP(const RaftEntry *, raft_core_entry, (const RaftCore *core, uint64_t index)) {
        static RaftEntry e;

        if (index < parts.first || index > parts.last)
                return NULL;
        e = (RaftEntry) { .term = index < 10 ? 4 : 5,
                          .type = RAFT_ENTRY_COMMAND,
                          .size = parts.entry_bytes - raft_entry_bytes(&(RaftEntry) {}) };
        return &e;
}

WRAP(int, raft_core_new, (const RaftCoreOptions *o, const RaftCoreOps *ops, void *userdata, RaftCore **ret)) {
        int r = result("raft_core_new");

        say("core new %" PRIu64 " %s %u %u", o->id, o->address, o->election_ms, o->heartbeat_ms);
        assert_ptr_equal(ops, &replica_core_ops);
        assert_ptr_equal(userdata, parts.p ?: userdata);
        if (r >= 0)
                *ret = (RaftCore *) &core_at;
        return r;
}

WRAP(RaftCore *, raft_core_free, (RaftCore * core)) {
        if (core)
                say("core free");
        return NULL;
}

WRAP(int, raft_core_log_fits, (const RaftCoreStart *s)) {
        say("fits: %zu entries from %" PRIu64, s->n_entries, s->first_index);
        if (s->state)
                say("  %" PRIu64 " of term %" PRIu64, s->state->index, s->state->term);
        return parts.misfit ? 0 : 1;
}

static void say_info(const char *name, const RaftStateInfo *i) {
        say("%s %" PRIu64 " of term %" PRIu64 ", configuration %" PRIu64 " (%zu bytes)", name, i->index,
            i->term, i->configuration_index, i->configuration_size);
}

WRAP(int, raft_core_start, (RaftCore * core, uint64_t now_ms, const RaftCoreStart *s)) {
        int r = result("raft_core_start");

        assert_int_equal(now_ms, fake.now_ms);
        say("core start term %" PRIu64 " vote %" PRIu64 ", %zu entries from %" PRIu64 "%s", s->term, s->vote,
            s->n_entries, s->first_index, s->take ? ", taken" : "");
        if (s->state)
                say_info("  state", s->state);
        if (r == 1) { /* an operation inside fails and returns its error */
                replica_fail(parts.p, -EFAULT, "inside");
                return -EFAULT;
        }
        return r;
}

/* Inputs of the core: at the loop's time, within an input. */
static int input(uint64_t now_ms, const char *name) {
        assert_int_equal(now_ms, fake.now_ms);
        assert_int_equal(parts.p->depth, 1);
        return result(name);
}

WRAP(int, raft_core_receive,
     (RaftCore * core, uint64_t now_ms, uint64_t from, const char *address, const RaftMessage *m)) {
        say("core receive %s of %" PRIu64 " at %s term %" PRIu64 "%s", raft_message_type_name(m->type), from,
            address, m->term, parts.p->incoming ? ", incoming" : "");
        return input(now_ms, "raft_core_receive");
}

WRAP(int, raft_core_tick, (RaftCore * core, uint64_t now_ms)) {
        say("core tick");
        if (parts.timeout_ms <= now_ms)
                parts.timeout_ms = UINT64_MAX;
        return input(now_ms, "raft_core_tick");
}

WRAP(int, raft_core_apply, (RaftCore * core, uint64_t now_ms)) {
        say("core apply");
        return input(now_ms, "raft_core_apply");
}

WRAP(int, raft_core_submit,
     (RaftCore * core, uint64_t now_ms, const void *data, size_t size, uint64_t *ret_index,
      uint64_t *ret_term)) {
        say("core submit %.*s", (int) size, (const char *) data);
        *ret_index = 21;
        *ret_term = 5;
        return input(now_ms, "raft_core_submit");
}

WRAP(int, raft_core_appended, (RaftCore * core, uint64_t now_ms, uint64_t generation, uint64_t last_index)) {
        say("core appended %" PRIu64 " %" PRIu64, generation, last_index);
        return input(now_ms, "raft_core_appended");
}

WRAP(int, raft_core_installed, (RaftCore * core, uint64_t now_ms)) {
        say("core installed");
        parts.installing = false;
        return input(now_ms, "raft_core_installed");
}

WRAP(int, raft_core_checkpointed,
     (RaftCore * core, uint64_t now_ms, const RaftStateInfo *info, unsigned trailing)) {
        say_info("core checkpointed", info);
        say("  trailing %u", trailing);
        return input(now_ms, "raft_core_checkpointed");
}

WRAP(int, raft_core_change,
     (RaftCore * core, uint64_t now_ms, const RaftChange *change, uint64_t *ret_index, Error *err)) {
        int r = input(now_ms, "raft_core_change");

        say("core change %d of %" PRIu64, change->kind, change->id);
        return r < 0 ? error_set(err, r, "no change") : 0;
}

WRAP(int, raft_core_transfer, (RaftCore * core, uint64_t now_ms, uint64_t id)) {
        say("core transfer %" PRIu64, id);
        return input(now_ms, "raft_core_transfer");
}

/* -- The log -- */

static void say_log_id(const RaftLog *log) {
        assert_ptr_equal(log, &log_at);
}

WRAP(int, raft_log_open,
     (Disk * d, Loop *loop, const RaftLogOptions *o, const RaftLogEvents *events, void *userdata,
      RaftLog **ret, Error *err)) {
        int r = result_said("raft_log_open", err);

        say("log open: file %" PRIu64 ", applied %" PRIu64 ", loaded %" PRIu64, o->file_size, o->applied,
            o->loaded_bytes);
        assert_true(d == &disk && loop == &fake.loop && events->appended == replica_on_appended &&
                    events->failed == replica_on_log_failed);
        assert_ptr_equal(userdata, parts.p ?: userdata);
        assert_ptr_equal(o->cancelled, &((Replica *) userdata)->data_dir.cancelled);
        if (r >= 0)
                *ret = (RaftLog *) &log_at;
        return r;
}

WRAP(RaftLog *, raft_log_close, (RaftLog * log, void (*closed)(void *userdata), void *userdata)) {
        if (!log)
                return NULL;
        say_log_id(log);
        say("log close");
        if (closed && parts.log_closes_later)
                parts.log_closed = closed;
        else if (closed)
                closed(userdata);
        return NULL;
}

WRAP(RaftLog *, raft_log_crash, (RaftLog * log)) {
        if (log)
                say("log crash");
        return NULL;
}

WRAP(const RaftLogMeta *, raft_log_meta, (const RaftLog *log)) {
        say_log_id(log);
        return &parts.meta;
}

WRAP(bool, raft_log_torn, (const RaftLog *log, const char **ret)) {
        *ret = parts.torn;
        return parts.torn;
}

WRAP(uint64_t, raft_log_last_index, (const RaftLog *log)) {
        return parts.log_last;
}

WRAP(uint64_t, raft_log_oldest_write_ms, (const RaftLog *log)) {
        return parts.oldest_ms;
}

WRAP(int, raft_log_take_entries, (RaftLog * log, RaftEntry **ret, size_t *ret_n, uint64_t *ret_first)) {
        int r = result("raft_log_take_entries");

        if (r < 0)
                return r;
        *ret = calloc(parts.log_entries + 1, sizeof(RaftEntry));
        assert_non_null(*ret);
        *ret_n = parts.log_entries;
        *ret_first = parts.log_first;
        return 0;
}

WRAP(const RaftEntry *, raft_log_entries, (const RaftLog *log, size_t *ret_n, uint64_t *ret_first)) {
        *ret_n = parts.log_entries;
        *ret_first = parts.log_first;
        return NULL;
}

WRAP(RaftEntry *, raft_log_entries_free, (RaftEntry * entries, size_t n)) {
        assert_non_null(entries);
        free(entries);
        say("entries free %zu", n);
        return NULL;
}

WRAP(int, raft_log_write_meta, (RaftLog * log, uint64_t term, uint64_t vote)) {
        say("log meta %" PRIu64 " %" PRIu64, term, vote);
        return result("raft_log_write_meta");
}

WRAP(int, raft_log_append,
     (RaftLog * log, uint64_t generation, uint64_t first, const RaftEntry *entries, size_t n)) {
        say("log append %" PRIu64 ": %" PRIu64 " %zu", generation, first, n);
        return result("raft_log_append");
}

WRAP(int, raft_log_reset, (RaftLog * log, uint64_t index)) {
        say("log reset %" PRIu64, index);
        return result("raft_log_reset");
}

WRAP(int, raft_log_cut, (RaftLog * log, uint64_t index)) {
        say("log cut %" PRIu64, index);
        return result("raft_log_cut");
}

/* -- What bootstrap.c does -- */

WRAP(int, bootstrap_found,
     (DataDir * folder, Disk *d, Random *random, const char *address, uint64_t size, Error *err)) {
        say("found %s %" PRIu64, address, size);
        assert_ptr_equal(d, &disk);
        return result_said("bootstrap_found", err);
}

WRAP(int, bootstrap_join, (DataDir * folder, Disk *d, const Identity *identity, uint64_t size, Error *err)) {
        say("join as %" PRIu64 " of %" PRIu64 " %" PRIu64, identity->raft_id, identity->cluster_id, size);
        assert_ptr_equal(d, &disk);
        return result_said("bootstrap_join", err);
}

WRAP(int, bootstrap_set_aside, (Disk * d, Error *err)) {
        say("set log aside");
        assert_ptr_equal(d, &disk);
        return result_said("bootstrap_set_aside", err);
}

WRAP(int, bootstrap_check, (const DataDir *folder, const RaftLogMeta *meta, Identity *ret, Error *err)) {
        int r = result_said("bootstrap_check", err);

        if (r >= 0)
                *ret = (Identity) { meta->cluster, 71, meta->id };
        return r;
}

WRAP(int, bootstrap_own_hardware, (const char *hardware_id, RaftLog *log, bool change)) {
        say("own hardware %s%s", hardware_id, change ? " (changed)" : "");
        return result("bootstrap_own_hardware");
}

WRAP(int, bootstrap_mark_tree, (Tree * tree, const Identity *identity, const char *path, Error *err)) {
        say("mark tree %d with %" PRIu64 " in %s", number_of(tree), identity->cluster_id, path);
        return result_said("bootstrap_mark_tree", err);
}

/* -- The folder -- */

static Tree *new_tree(void) {
        assert_true(parts.n_trees + 1 < PART_TREES);
        return (Tree *) &tree_at[++parts.n_trees];
}

WRAP(int, data_dir_open,
     (DataDir * f, const char *path, const char *machine_id, const char *boot_id, uint64_t quota, Tree **ret,
      Error *err)) {
        int r = result_said("data_dir_open", err);

        say("folder open %s %s %s %" PRIu64, path, machine_id, boot_id, quota);
        f->path = (char *) path;
        f->corrupt = r == -EUCLEAN && parts.corrupt;
        if (r >= 0)
                *ret = new_tree();
        return r;
}

WRAP(int, data_dir_open_empty, (const DataDir *f, Tree **ret, Error *err)) {
        int r = result_said("data_dir_open_empty", err);

        say("folder open nothing");
        if (r >= 0)
                *ret = new_tree();
        return r;
}

WRAP(void, data_dir_done, (DataDir * f)) {
        say("folder done");
        checkpoint_done(&f->checkpoint);
}

WRAP(int, data_dir_rebuild, (const DataDir *f, Tree **ret, bool *ret_corrupt, Error *err)) {
        int r = result_said("data_dir_rebuild", err);

        say("folder rebuild");
        *ret_corrupt = parts.corrupt;
        if (r >= 0)
                *ret = new_tree();
        return r;
}

WRAP(void, data_dir_rebuilt, (DataDir * f)) {
        say("folder rebuilt");
        f->distrusted = false;
}

WRAP(int, data_dir_space, (const DataDir *f, uint64_t *ret_free, uint64_t *ret_total)) {
        *ret_free = parts.space[1];
        *ret_total = parts.total[1];
        return result("data_dir_space");
}

WRAP(void, data_dir_closed, (DataDir * f)) {
        say("folder closed");
}

WRAP(void, data_dir_distrust, (DataDir * f)) {
        say("folder distrust");
        f->distrusted = true;
}

WRAP(int, data_dir_read_identity, (const DataDir *f, uint64_t *ret_cluster_id, uint64_t *ret_lineage)) {
        *ret_cluster_id = 70;
        *ret_lineage = 71;
        return result("data_dir_read_identity");
}

WRAP(int, data_dir_copy, (const DataDir *f, Tree *tree, Checkpoint *ret, Error *err)) {
        int r = result_said("data_dir_copy", err);

        say("folder copy of tree %d", number_of(tree));
        if (r >= 0) {
                *ret = (Checkpoint) { .fd = open("/dev/null", O_RDONLY | O_CLOEXEC),
                                      .size = 3000,
                                      .meta = parts.trees[number_of(tree)],
                                      .configuration = strdup("conf"),
                                      .configuration_size = 4 };
                assert_true(ret->fd >= 0);
        }
        return r;
}

WRAP(int, data_dir_probe, (const DataDir *f, Tree *tree, Error *err)) {
        say("folder probe of tree %d", number_of(tree));
        return result_said("data_dir_probe", err);
}

WRAP(void, data_dir_adopt, (DataDir * f, Checkpoint *c)) {
        say("folder adopt %" PRIu64, c->meta.applied);
        checkpoint_done(&f->checkpoint);
        f->checkpoint = *c;
        *c = (Checkpoint) { .fd = -1 };
}

WRAP(void, data_dir_forget_checkpoint, (DataDir * f)) {
        say("folder forget checkpoint");
        checkpoint_done(&f->checkpoint);
}

WRAP(void, data_dir_cancel, (DataDir * f)) {
        say("folder cancel");
}

WRAP(int, data_dir_install, (DataDir * f, Checkpoint *incoming, bool replace, Tree **ret, Error *err)) {
        int r = result_said("data_dir_install", err);

        say("folder install %" PRIu64 "%s", incoming->meta.applied, replace ? ", replace" : "");
        if (r < 0)
                return r;
        f->checkpoint.meta = incoming->meta;
        if (replace)
                *ret = new_tree();
        return r;
}

WRAP(int, data_dir_quarantine, (const DataDir *f, const char *reason)) {
        say("folder lose: %s", reason);
        return result("data_dir_quarantine");
}

WRAP(int, data_dir_is_quarantined, (const DataDir *f, char *ret, size_t size)) {
        int r = result("data_dir_is_quarantined");

        if (r > 0)
                snprintf(ret, size, "it was lost");
        return r;
}

WRAP(int, data_dir_read_restored, (const DataDir *f, uint64_t *ret_term)) {
        *ret_term = 7;
        return result("data_dir_read_restored");
}

WRAP(int, data_dir_remove_restored, (const DataDir *f)) {
        return result("data_dir_remove_restored");
}

WRAP(int, data_dir_set_aside, (DataDir * f, Tree **ret, Error *err)) {
        int r = result_said("data_dir_set_aside", err);

        say("folder set aside");
        if (r >= 0)
                *ret = new_tree();
        return r;
}

WRAP(int, data_dir_end_quarantine, (const DataDir *f)) {
        say("folder found");
        return result("data_dir_end_quarantine");
}

/* -- The tree -- */

static int begin(Tree *tree, const char *name, TreeTxn **ret) {
        int r = result(name);

        assert_non_null(tree);
        if (r < 0)
                return r;
        parts.n_txns++;
        *ret = (TreeTxn *) &txn_at[number_of(tree)];
        return 0;
}

static TreeMeta *meta_of(const TreeTxn *txn) {
        return &parts.trees[(const char *) txn - txn_at];
}

WRAP(int, tree_begin_read, (Tree * tree, TreeTxn **ret)) {
        return begin(tree, "tree_begin_read", ret);
}

WRAP(int, tree_begin_write, (Tree * tree, TreeTxn **ret)) {
        say("begin");
        return begin(tree, "tree_begin_write", ret);
}

WRAP(int, tree_commit, (TreeTxn * txn)) {
        say("commit");
        parts.n_txns--;
        return result("tree_commit");
}

WRAP(void, tree_abort, (TreeTxn * txn)) {
        if (txn)
                parts.n_txns--;
}

WRAP(Tree *, tree_close, (Tree * tree)) {
        if (tree)
                say("close tree %d", number_of(tree));
        return NULL;
}

WRAP(int, tree_meta, (TreeTxn * txn, TreeMeta *ret)) {
        int r = result("tree_meta");

        if (r >= 0)
                *ret = *meta_of(txn);
        return r;
}

WRAP(int, tree_set_meta, (TreeTxn * txn, const TreeMeta *meta)) {
        say("set meta: entry %" PRIu64 " of term %" PRIu64 ", configuration %" PRIu64, meta->applied,
            meta->applied_term, meta->configuration_index);
        return result("tree_set_meta");
}

WRAP(int, tree_configuration, (TreeTxn * txn, KvBytes *ret)) {
        int r = result("tree_configuration");

        if (r >= 0)
                *ret = (KvBytes) { (const uint8_t *) "conf", parts.configuration_size };
        return r;
}

WRAP(int, tree_set_configuration, (TreeTxn * txn, KvBytes configuration)) {
        say("set configuration %.*s", (int) configuration.size, (const char *) configuration.data);
        return result("tree_set_configuration");
}

WRAP(int, apply_batch,
     (TreeTxn * txn, uint64_t index, uint64_t term, const void *bytes, size_t size, Applied *applied)) {
        say("apply %" PRIu64, index);
        applied->cost.total = parts.cost;
        applied->bytes = parts.held;
        return result("apply");
}

WRAP(void, applied_commit, (Applied * applied)) {
        say("committed");
}

WRAP(void, applied_abort, (Applied * applied)) {
        say("not committed");
}

int __real_apply_other(TreeTxn *txn, uint64_t index, uint64_t term, const KvBytes *configuration);
WRAP(int, apply_other, (TreeTxn * txn, uint64_t index, uint64_t term, const KvBytes *configuration)) {
        if (configuration)
                return __real_apply_other(txn, index, term, configuration);
        say("apply empty %" PRIu64 " of term %" PRIu64, index, term);
        return result("apply_empty");
}

WRAP(void, tree_set_work, (Tree * tree, TurnWork *work)) {
        say("work of tree %d: %s", number_of(tree),
            work == &fake.loop.turns.now ? "turn" :
            work                         ? "other" :
                                           "none");
}

WRAP(uint64_t, tree_touched, (const TreeTxn *txn)) {
        return parts.touched;
}

WRAP(uint64_t, tree_file_size, (const Tree *tree)) {
        assert_non_null(tree);
        return parts.file_size;
}

/* A configuration is as many servers as it has bytes. */
WRAP(int, raft_configuration_decode_servers, (const void *bytes, size_t size, RaftServers *ret)) {
        int r = result("raft_configuration_decode_servers");

        if (r < 0)
                return r;
        ret->items = calloc(size, sizeof(*ret->items));
        assert_non_null(ret->items);
        ret->n = size;
        return 0;
}

/* -- Transfers and comparison -- */

WRAP(int, transfers_new, (Transfers * *ret, Replica *p)) {
        int r = result("transfers_new");

        if (r >= 0)
                *ret = (Transfers *) &transfers_at;
        return r;
}

WRAP(Transfers *, transfers_free, (Transfers * t)) {
        if (t)
                say("transfers free");
        return NULL;
}

WRAP(void, transfers_drop, (Transfers * t)) {
        say("transfers drop");
}

WRAP(bool, transfers_busy, (const Transfers *t)) {
        return parts.busy;
}

WRAP(void, transfers_send, (Transfers * t, uint64_t to, uint64_t index, bool again)) {
        say("transfers send %" PRIu64 " %" PRIu64, to, index);
}

WRAP(void, transfers_step, (Transfers * t)) {
        say("transfers step");
}

WRAP(bool, transfers_on_snapshot, (Transfers * t, PeerSession *session, const void *payload, size_t size)) {
        say("bulk %.*s", (int) size, (const char *) payload);
        return parts.wanted;
}

WRAP(void, transfers_on_ack,
     (void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size)) {
        if (replica_is_open(userdata))
                say("ack %.*s", (int) size, (const char *) payload);
}

WRAP(Checkpoint *, transfers_whole, (Transfers * t)) {
        return parts.whole;
}

WRAP(Checkpoint *, transfers_received, (Transfers * t, const RaftMessage *message)) {
        return parts.received;
}

WRAP(int, consistency_new, (ConsistencyCheck * *ret, Replica *p)) {
        int r = result("consistency_new");

        if (r >= 0)
                *ret = (ConsistencyCheck *) &compare_at;
        return r;
}

WRAP(ConsistencyCheck *, consistency_free, (ConsistencyCheck * c)) {
        if (c)
                say("compare free");
        return NULL;
}

WRAP(void, consistency_applied, (ConsistencyCheck * c, TreeTxn *txn, uint64_t index)) {
        say("compare %" PRIu64, index);
}

WRAP(void, consistency_committed, (ConsistencyCheck * c, bool committed)) {
        say("compare %s", committed ? "committed" : "not committed");
}

WRAP(void, consistency_on_flush, (ConsistencyCheck * c, unsigned changed)) {
        say("compare flushed %u", changed);
}

WRAP(void, consistency_on_frame,
     (void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size)) {
        say("compare frame %.*s", (int) size, (const char *) payload);
}

WRAP(bool, consistency_differs, (const ConsistencyCheck *c)) {
        return parts.differs;
}

WRAP(bool, consistency_undecided, (const ConsistencyCheck *c)) {
        return parts.undecided;
}

WRAP(void, consistency_tree_replaced, (ConsistencyCheck * c, bool taken)) {
        say("compare exchanged%s", taken ? ", taken" : "");
}

/* -- Sessions -- */

WRAP(const PeerHandshake *, peers_self, (const Peers *peers)) {
        return &parts.self;
}

WRAP(void, peers_set_self, (Peers * peers, const PeerHandshake *self)) {
        say("self %s: %" PRIu64 " of %" PRIu64 ", %" PRIu64 ", start %" PRIu64, self->name, self->raft_id,
            self->cluster_id, self->lineage, self->start_number);
}

WRAP(const PeerHandshake *, peer_handshake, (const PeerSession *session)) {
        return &parts.handshake;
}

WRAP(const TlsPeer *, peer_authentication, (const PeerSession *session)) {
        static const TlsPeer key_file = { .kind = TLS_PEER_KEY };

        return &key_file;
}

WRAP(PeerSession *, peers_session, (Peers * peers, uint64_t number)) {
        return parts.no_session ? NULL : (PeerSession *) &peers_at;
}

static void say_frame(const char *what, uint64_t to, PeerFrame type, const void *bytes, size_t size) {
        Reader r = reader_over(bytes, size);
        uint64_t cluster_id = read_u64(&r), from = read_u64(&r), head = read_u64(&r);
        RaftMessage m;

        if (type == PEER_RAFT && raft_message_decode(r.bytes, r.left, &m) >= 0) {
                text_printf(&fake.said, "%s %" PRIu64 " (%" PRIu64 " %" PRIu64 " %" PRIu64 ") %s", what, to,
                            cluster_id, from, head, raft_message_type_name(m.type));
                say(" term %" PRIu64 ": prev %" PRIu64 " of %" PRIu64 ", commit %" PRIu64, m.term,
                    m.append.prev_index, m.append.prev_term, m.append.commit);
                raft_message_done(&m);
        } else
                say("%s %" PRIu64 " type %d: %.*s", what, to, type, (int) size, (const char *) bytes);
}

WRAP(int, peers_send_raft,
     (Peers * peers, uint64_t raft_id, PeerFrame type, const void *payload, size_t size)) {
        say_frame("send", raft_id, type, payload, size);
        return result("peers_send_raft");
}

WRAP(int, peer_reply, (PeerSession * session, PeerFrame type, const void *payload, size_t size)) {
        say_frame("reply", 0, type, payload, size);
        return 0;
}
