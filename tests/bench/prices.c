/* The prices of tests/search/work.h, found again: what one call takes, in units of cost. */
#include <time.h>
#include "tests/lib/test.h"
#include "fleetd/scheduler/view.h"
#include "io/child_uv.h"
#include "io/loop_uv.h"
#include "kvstore/command/cost.h"
#include "kvstore/hub.h"
#include "kvstore/remote_frames.h"
#include "peers/session.h"
#include "tests/bench/prices.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/manual_loop.h"

static double cpu_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return t.tv_sec * 1e9 + t.tv_nsec;
}

static void report(const char *name, double began_ns, size_t n) {
        double each_ns = (cpu_ns() - began_ns) / (double) n;

        printf("%-34s %9.0f ns  %8.0f units\n", name, each_ns,
               each_ns * COST_ENTRY_MAX / (COST_ENTRY_MS * 1e6));
}

/* -- Frames -- */

static int no_write(Stream *s, const void *bytes, size_t size, Shared *shared) {
        return 0;
}

static void no_pause(Stream *s, bool paused) {}
static void no_close(Stream *s) {}
static void no_session(void *userdata, PeerSession *s) {}
static void no_frame(void *userdata, PeerSession *s, const Frame *frame) {}
static void no_end(void *userdata, PeerSession *s, int error, const char *reason) {}

static void frames(void) {
        enum { READS = 20000, AT_ONCE = 64, TYPE = 10 };
        static const SessionEvents events = {
                .on_handshake = no_session, .on_frame = no_frame, .on_end = no_end, .on_free = no_session
        };
        static const StreamOps ops = { .write = no_write, .pause = no_pause, .close = no_close };
        static const PeerFrameRule types[PEER_FRAME_TYPES] = { [TYPE] = { PEER_ANSWER } };
        PeerHandshake self = { .machine_id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
        Stream stream = { .ops = &ops };
        uint8_t bytes[AT_ONCE * (FRAME_HEADER_SIZE + 8)] = {};
        SessionContext context = { .self = &self, .types = types, .events = &events };
        PeerSession *s;
        ManualLoop loop;
        double began_ns;

        manual_loop_init(&loop, 1);
        context.loop = &loop.base;
        if (session_new(&s, &context, &stream, true, false) < 0)
                abort();
        session_open(s);
        for (size_t i = 0; i < AT_ONCE; i++)
                frame_header(bytes + i * (FRAME_HEADER_SIZE + 8), TYPE, 8);
        began_ns = cpu_ns();
        for (size_t i = 0; i < READS; i++) {
                stream.events->on_read(stream.userdata, bytes, sizeof(bytes));
                (void) turns_end_work(&loop.base.turns);
        }
        report("frame dispatched", began_ns, READS * AT_ONCE);
        session_cut(s, 0, "");
        stream.events->on_close(stream.userdata, 0, "");
        loop_done(&loop.base);
}

/* -- Events -- */

static void copy_event(void *userdata, KvWatchEvent *event) {
        remote_item_write(&(RemoteItem) { .kind = REMOTE_EVENT, .event = event->event }, userdata);
}

static void events(void) {
        enum { WATCHES = 200 };
        static const KvWatchOps ops = { .on_event = copy_event };
        KvWatchOptions options = { .key = kv_string("/w"), .recursive = true, .internal = true, .since = 1 };
        KvEvent event = { .action = KV_ACTION_SET,
                          .node = { .key = kv_string("/w/12345"), .value = kv_string("1") } };
        KvWatch *watches[WATCHES];
        uint64_t oldest;
        ManualLoop loop;
        Writer w = {};
        Hub *hub;
        double began_ns;

        manual_loop_init(&loop, 1);
        if (hub_new(&hub, &loop.base, HUB_WINDOW, 0) < 0)
                abort();
        for (event.index = 1; event.index <= HUB_WINDOW; event.index++)
                hub_publish(hub, &event);
        began_ns = cpu_ns();
        for (size_t i = 0; i < WATCHES; i++)
                if (hub_watch(hub, &options, &ops, &w, &watches[i], &oldest) < 0)
                        abort();
        report("event of a window looked at", began_ns, WATCHES * HUB_WINDOW);
        began_ns = cpu_ns();
        while (loop_run_due(&loop.base, 100))
                (void) turns_end_work(&loop.base.turns);
        report("event copied", began_ns, WATCHES * HUB_WINDOW);
        for (size_t i = 0; i < WATCHES; i++)
                (void) kv_watch_close(watches[i]);
        hub_free(hub);
        writer_done(&w);
        loop_done(&loop.base);
}

/* -- Candidates -- */

static void candidates(void) {
        enum { MACHINES = 1000, PICKS = 20 };
        SchedulerView *view;
        ClusterView p = {};
        const ClusterMachine *machine;
        char name[16];
        double began_ns;

        for (unsigned i = 0; i < MACHINES; i++) {
                snprintf(name, sizeof(name), "A%u", i);
                cluster_view_machine(&p, name, "disk=ssd", PRESENCE_UP);
        }
        cluster_view_unit(&p, "a.service", "MachineMetadata=disk=none\n", TARGET_LAUNCHED);
        if (scheduler_view_new(&p.cluster, 1, &view) < 0)
                abort();
        began_ns = cpu_ns();
        for (unsigned i = 0; i < PICKS; i++)
                (void) scheduler_pick(view, cluster_unit(&p.cluster, "a.service"), &machine, NULL);
        report("candidate of the planner", began_ns, MACHINES * PICKS);
        scheduler_view_free(view);
        cluster_view_free(&p);
}

/* -- Children -- */

static unsigned n_ended;
static UvLoop *children_loop;

static void on_exit_of_child(void *userdata, int status) {
        if (--n_ended == 0)
                loop_uv_stop(children_loop);
}

static void children(void) {
        enum { CHILDREN = 50 };
        static const ChildEvents ends = { .on_exit = on_exit_of_child };
        static const char *const argv[] = { "/bin/true", NULL };
        const ChildOptions options = { .class = CHILD_IDLE, .cpu_s = 1 };
        double began_ns;
        Error err = {};

        if (loop_uv_new(&children_loop) < 0)
                abort();
        n_ended = CHILDREN;
        began_ns = cpu_ns();
        for (unsigned i = 0; i < CHILDREN; i++) {
                Child *child;

                if (child_spawn(&child, loop_uv_base(children_loop), argv, &options, &ends, NULL, &err) < 0)
                        abort();
        }
        loop_uv_run(children_loop);
        report("child started and ended", began_ns, CHILDREN);
        loop_uv_free(children_loop);
}

void prices(void) {
        frames();
        events();
        candidates();
        children();
}
