/* Arbitrary bytes as each frame between an attached host and a replica: what is accepted is within its
 * limits, and is read again as it was written. The first byte selects the frame. */

#include "fleetd/sessions/report_hosts.h"
#include "fleetd/sessions/reports.h"
#include "kvstore/remote_frames.h"
#include "kvstore/result_frame.h"

static void conditions(const void *bytes, size_t size) {
        Reader r = reader_over(bytes, size);
        bool coded = size % 2;
        HostCondition c, again;

        while (host_condition_read(&r, coded, &c)) {
                _cleanup_writer_ Writer w = {};
                Reader written;

                assert(strlen(c.machine) == MACHINE_ID_SIZE - 1);
                host_condition_write(&c, coded, &w);
                written = reader_over(w.bytes, w.size);
                assert(host_condition_read(&written, coded, &again) && written.left == 0);
                assert(streq(c.machine, again.machine) && c.flags == again.flags &&
                       c.clock_ms == again.clock_ms && c.problem.code == again.problem.code);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static bool same_bytes(KvBytes a, KvBytes b) {
        return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void subscribe(const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};
        RemoteSubscribe one, two;
        uint64_t hashes[16], hash;
        size_t n = 0, all = 0;

        if (remote_subscribe_read(bytes, size, &one) < 0)
                return;
        assert(one.kind < _REMOTE_KIND_MAX && (one.kind == REMOTE_SLICE) == (one.key.size == 0));
        for (; remote_next_hash(&one, &hash); all++)
                if (n < ELEMENTS(hashes))
                        hashes[n++] = hash;
        assert(all <= REMOTE_HASHES_MAX);
        remote_subscribe_write(&one, hashes, n, &w);
        assert(w.error == 0 && remote_subscribe_read(w.bytes, w.size, &two) == 0);
        assert(two.number == one.number && two.kind == one.kind && same_bytes(two.key, one.key) &&
               two.since == one.since && two.lineage == one.lineage && two.bound == one.bound &&
               two.hashes.left == n * sizeof(uint64_t));
}

static void unsubscribe(const void *bytes, size_t size) {
        uint32_t number;

        (void) remote_unsubscribe_read(bytes, size, &number);
}

static void page(const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};
        RemotePage one, two;
        RemoteItem item;
        size_t n = 0;
        int r;

        if (remote_page_read(bytes, size, &one) < 0)
                return;
        remote_page_write(&one, &w);
        for (; (r = remote_next_item(&one, &item)) > 0; n++)
                remote_item_write(&item, &w);
        assert(r == 0 || r == -EBADMSG);
        assert(w.error == 0 && remote_page_read(w.bytes, w.size, &two) == 0);
        assert(two.number == one.number && two.index == one.index && two.lineage == one.lineage);
        for (; remote_next_item(&two, &item) > 0; n--)
                ;
        assert(n == 0 && two.items.left == 0);
}

static void end(const void *bytes, size_t size) {
        RemoteEnd one;

        if (remote_end_read(bytes, size, &one) == 0)
                assert(one.cause < _REMOTE_GONE_MAX);
}

static void reading(const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};
        RemoteRead one, two;

        if (remote_read_read(bytes, size, &one) < 0)
                return;
        remote_read_write(&one, &w);
        assert(w.error == 0 && remote_read_read(w.bytes, w.size, &two) == 0);
        assert(one.kind < _REMOTE_READ_MAX && two.kind == one.kind && two.number == one.number &&
               same_bytes(two.key, one.key) && two.bound == one.bound);
}

static void found(const void *bytes, size_t size) {
        RemoteFound one;
        KvNode node;

        if (remote_found_read(bytes, size, &one) < 0)
                return;
        assert(one.status < _KV_STATUS_MAX && one.error <= 0 && one.error >= -4095);
        while (remote_next_node(&one, &node) > 0)
                assert(node.value.size <= size);
}

static void current(const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};
        RemoteCurrent one, two;

        if (remote_current_read(bytes, size, &one) < 0)
                return;
        assert(one.n_members <= REMOTE_MEMBERS_MAX && strlen(one.leader) < MACHINE_ID_SIZE);
        remote_current_write(&one, &w);
        assert(w.error == 0 && remote_current_read(w.bytes, w.size, &two) == 0);
        assert(two.index == one.index && two.events == one.events && streq(two.leader, one.leader) &&
               two.n_members == one.n_members && two.stops == one.stops && two.rare == one.rare);
}

static void result(const void *bytes, size_t size) {
        _cleanup_arena_ Arena arena = {};
        _cleanup_writer_ Writer w = {}, again = {};
        Reader r = reader_over(bytes, size);
        KvResult one, two;

        if (result_frame_read(&r, &arena, &one) < 0)
                return;
        assert(one.status < _KV_STATUS_MAX && one.action < _KV_ACTION_MAX);
        result_frame_write(&one, &w);
        r = reader_over(w.bytes, w.size);
        assert(w.error == 0 && result_frame_read(&r, &arena, &two) == 0 && r.left == 0);
        result_frame_write(&two, &again);
        assert(again.size == w.size && memcmp(again.bytes, w.bytes, w.size) == 0);
}

static bool report_sign(void *userdata, const char *machine_id, const LivenessSign *sign, bool late) {
        assert(strlen(machine_id) == MACHINE_ID_SIZE - 1 && sign->ticks <= REPORT_IDLE_TICKS);
        assert(!sign->unattached || !sign->session);
        ++*(size_t *) userdata;
        return true;
}

static void report_clone(void *userdata, const char *machine_id) {
        assert(strlen(machine_id) == MACHINE_ID_SIZE - 1);
        ++*(size_t *) userdata;
}

static void report(const void *bytes, size_t size) {
        Reports reports = {};
        size_t n = 0;

        reports_begin(&reports, report_sign, &n);
        if (reports_take(&reports, "replica", 1, 1, 1000, bytes, size) == 0) {
                assert(n <= 2 * size / 17); /* a host costs no more than its bytes */
                assert(reports_take(&reports, "replica", 1, 1, 1000, bytes, size) == -EBADMSG);
        }
        n = 0;
        reports_read_clones(bytes, size, report_clone, &n);
        assert(n <= size / 17);
        reports_tick(&reports, 1000, false);
        reports_tick(&reports, 1000 + REPORT_VALID_MS, false);
        assert(reports.grace_ticks + 1 >= REPORT_GRACE_MS / LIVENESS_TICK_MS);
        reports_done(&reports);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static void (*const frames[])(const void *bytes, size_t size) = {
                subscribe, unsubscribe, page, end, reading, found, current, result, report, conditions,
        };

        if (size > 0)
                frames[bytes[0] % ELEMENTS(frames)](bytes + 1, size - 1);
        return 0;
}
