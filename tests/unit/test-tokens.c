#include "tests/lib/test.h"
#include "fleetd/identity/tokens.h"
#include "tests/lib/cluster_view.h"

#define A       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B       "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C       "cccccccccccccccccccccccccccccccc"
#define PIN_A   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PIN_B   "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SECRET  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define WRONG   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee"
#define ONCE    "000000000001"
#define MANY    "000000000002"
#define SPENT   "000000000003"
#define REVOKED "000000000004"
#define FOR_B   "000000000005"
#define LOCAL   "000000000006"
#define PLACED  "000000000007"
#define NONE    "00000000000f"
#define NEXT    "create another one on a host of the cluster: fleetctl token"
#define KNOWN_A                                                                                       \
        "the cluster has this machine ID with another key (A); if installed again, on another host: " \
        "fleetctl token --replace=aaaaaaaa; if a copy: fleetctl help add"

enum { NOW_MS = 1000000, LEVEL = 5 };

static void put_token(ClusterView *p, const char *id, const char *rest) {
        char key[128], value[512];

        snprintf(key, sizeof(key), "/_fleet/cluster/token/%s", id);
        snprintf(value, sizeof(value), "{\"expires\":2000000,\"hash\":\"" SECRET "\",%s}", rest);
        cluster_view_put(p, key, value);
}

/* The hosts "A" (joined with SPENT) and "B" (a member that has joined without a certificate). */
static void put_cluster(ClusterView *p) {
        cluster_view_machine(p, "A", "", PRESENCE_UP);
        cluster_view_put(p, "/_fleet/cluster/host/" A,
                         "{\"joined\":7,\"pins\":[\"" PIN_A "\"],\"token\":\"" SPENT "\"}");
        cluster_view_put(p, "/_fleet/cluster/member/" A, "{\"raftId\":1}");
        put_token(p, ONCE, "\"total\":1,\"uses\":1");
        put_token(p, MANY, "\"total\":9,\"uses\":2");
        put_token(p, SPENT, "\"total\":1");
        put_token(p, REVOKED, "\"revoked\":true,\"total\":1,\"uses\":1");
        put_token(p, FOR_B, "\"replace\":\"" B "\",\"total\":1,\"uses\":1");
        put_token(p, LOCAL, "\"from\":\"10.1.0.0/16\",\"total\":1,\"uses\":1");
        put_token(p, PLACED, "\"metadata\":{\"zone\":\"a\"},\"total\":1,\"uses\":1");
}

static void a_network_contains_its_addresses(void **state) {
        static const struct {
                const char *network, *address;
                bool has;
        } rows[] = {
                { "10.0.0.0/8", "10.200.3.4:2380", true },
                { "10.0.0.0/8", "11.0.0.1:2380", false },
                { "10.1.128.0/17", "10.1.128.1:1", true },
                { "10.1.128.0/17", "10.1.127.1:1", false },
                { "10.1.2.3", "10.1.2.3:1", true },
                { "10.1.2.3", "10.1.2.2:1", false },
                { "0.0.0.0/0", "1.2.3.4:1", true },
                { "0.0.0.0/0", "[::1]:1", false },
                { "10.0.0.0/8", "[::ffff:10.0.0.1]:1", true },
                { "10.0.0.0/8", "[::ffff:11.0.0.1]:1", false },
                { "fd00::/8", "[fd12::1]:1", true },
                { "fd00::/8", "[fe12::1]:1", false },
                { "::/0", "[::1]:1", true },
                { "::/0", "10.0.0.1:1", false },
                { "10.0.0.0/8", "", false },
                { "10.0.0.0/8", "alpha:2380", false },
                { "10.0.0.0/8", "10.0.0.1", false },
        };
        static const char *const wrong[] = { "",           "a",        "10.0.0.0/33",
                                             "10.0.0.0/",  "10.0.0/8", "fd00::/129",
                                             "10.0.0.0/x", "/8",       "10.0.0.0/-1" };
        IpNetwork network;
        Error err = {};

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(ip_network_parse(rows[i].network, &network, NULL), 0);
                if (ip_network_has(&network, rows[i].address) != rows[i].has)
                        fail_msg("%s, %s", rows[i].network, rows[i].address);
        }
        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                assert_int_equal(ip_network_parse(wrong[i], &network, &err), -EINVAL);
                assert_non_null(strstr(err.message, "is not a network"));
        }
        assert_int_equal(ip_network_parse("1111111111111111111111111111111111111111111111111111111111111111",
                                          &network, &err),
                         -EINVAL);
}

#define LONG16 "/456789012345678"
#define LONG                                                                                              \
        LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 \
                LONG16 LONG16

static void a_token_is_planned_within_its_limits(void **state) {
        static const struct {
                TokenRequest request;
                int error;
                const char *message;
        } rows[] = {
                { { .uses = 10000, .ttl_ms = TOKEN_TTL_MAX_MS }, 0, NULL },
                { { .uses = 10001 }, -EINVAL, "10001 uses: expected 1 to 10000" },
                { { .ttl_ms = TOKEN_TTL_MIN_MS }, 0, NULL },
                { { .ttl_ms = TOKEN_TTL_MIN_MS - 1000 },
                  -EINVAL,
                  "a life of 59 s: expected 1 minute to 7 days" },
                { { .ttl_ms = TOKEN_TTL_MAX_MS + 1000 },
                  -EINVAL,
                  "a life of 604801 s: expected 1 minute to 7 days" },
                { { .restricted = true, .level = 5 },
                  -EINVAL,
                  "a restricted host holds no replica, which needs feature level 6; the cluster has 5: "
                  "fleetctl cluster level 6" },
                { { .restricted = true, .level = 6 }, 0, NULL },
                { { .restricted = true, .level = 6, .replace = "A" },
                  -EPERM,
                  "A holds a replica, which a restricted host does not: remove it first (fleetctl remove "
                  "aaaaaaaa), or use a token without --restricted (--restricted=false)" },
                { { .restricted = true, .level = 6, .write = "/app,/logs" }, 0, NULL },
                { { .restricted = true, .level = 6, .write = "/_fleet/unit" },
                  -EPERM,
                  "write: keys below /_fleet are fleet's own: remove /_fleet/unit from --write" },
                { { .restricted = true, .level = 6, .write = "/app," },
                  -EINVAL,
                  "write: expected a prefix after the last comma" },
                { { .restricted = true, .level = 6, .write = "/a\033[2J" },
                  -EINVAL,
                  "write: a prefix has no control characters" },
                { { .restricted = true, .level = 6, .write = "/app,,/b" },
                  -EINVAL,
                  "write: expected a prefix that begins with '/' and has no empty part, none of '.' and "
                  "'..', and no '/' at its end, for example /app" },
                { { .restricted = true, .level = 6, .write = LONG },
                  -E2BIG,
                  "write: expected prefixes of at most 255 bytes in all" },
                { { .write = "/app" },
                  -EINVAL,
                  "write: an ordinary host may write all keys of users; prefixes are of a restricted one "
                  "(--restricted)" },
                { { .replace = "A" }, 0, NULL },
                { { .replace = "aaaaaaaa" }, 0, NULL },
                { { .replace = A }, 0, NULL },
                { { .replace = "aaaaaaa" },
                  -ENOENT,
                  "no machine 'aaaaaaa': fleetctl list-machines --all prints them" },
                { { .replace = "cccccccc" }, 0, NULL }, /* it has a certificate, and was never up */
                { { .replace = "A", .uses = 2 }, -EINVAL, "a token that replaces a machine has one use" },
                { { .from = "10.0.0.0/8" }, 0, NULL },
                { { .from = "10.0.0.0/80" },
                  -EINVAL,
                  "'10.0.0.0/80' is not a network: expected at most 32 bits" },
        };
        _cleanup_cluster_view_ ClusterView p = {};

        put_cluster(&p);
        cluster_view_put(&p, "/_fleet/cluster/host/" C, "{\"pins\":[\"" PIN_B "\"]}");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const TokenRequest *q = &rows[i].request;
                TokenRecord token = {};
                Error err = {};

                assert_int_equal(token_plan(&p.cluster, q, NOW_MS, &token, &err), rows[i].error);
                assert_string_equal(err.message, rows[i].message ?: "");
                if (rows[i].error < 0)
                        continue;
                assert_int_equal(token.total, q->uses ?: 1);
                assert_int_equal(token.uses, token.total);
                assert_int_equal(token.expires_ms, NOW_MS + (q->ttl_ms ?: TOKEN_TTL_DEFAULT_MS));
                assert_string_equal(token.replace, !q->replace ? "" : streq(q->replace, "cccccccc") ? C : A);
                assert_string_equal(token.from, q->from ?: "");
                assert_int_equal(token.restricted, q->restricted);
                assert_string_equal(token.write, q->write ?: "");
                token_record_done(&token);
        }
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_put(&p, "/_fleet/machine/" B "/facts", "{\"name\":\"A\"}");
        assert_int_equal(token_plan(&p.cluster, &(TokenRequest) { .replace = "A" }, NOW_MS, &(TokenRecord) {},
                                    &(Error) {}),
                         -ENOTUNIQ);
}

static void metadata_of_a_token_is_checked_and_copied(void **state) {
        _cleanup_pairs_ Pairs metadata = {}, wrong = {};
        _cleanup_cluster_view_ ClusterView p = {};
        TokenRecord token;
        Error err = {};

        assert_int_equal(pairs_set(&metadata, "zone", "a"), 0);
        assert_int_equal(token_plan(&p.cluster, &(TokenRequest) { .metadata = &metadata, .by = "root" },
                                    NOW_MS, &token, NULL),
                         0);
        assert_string_equal(pairs_get(&token.metadata, "zone"), "a");
        assert_string_equal(token.by, "root");
        token_record_done(&token);
        assert_int_equal(pairs_set(&wrong, "zo ne", "a"), 0);
        assert_int_equal(token_plan(&p.cluster, &(TokenRequest) { .metadata = &wrong }, NOW_MS, &token, &err),
                         -EINVAL);
        assert_non_null(strstr(err.message, "zo ne"));
        for (unsigned i = 0; i <= METADATA_KEYS_MAX; i++) {
                char key[16];

                snprintf(key, sizeof(key), "k%u", i);
                assert_int_equal(pairs_set(&metadata, key, "a"), 0);
        }
        assert_int_equal(
                token_plan(&p.cluster, &(TokenRequest) { .metadata = &metadata }, NOW_MS, &token, &err),
                -EINVAL);
}

static void the_number_of_tokens_is_limited(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        TokenRecord token = {};
        char id[16];

        for (unsigned i = 0; i < TOKENS_MAX; i++) {
                assert_int_equal(token_plan(&p.cluster, &(TokenRequest) {}, NOW_MS, &token, NULL), 0);
                snprintf(id, sizeof(id), "%012x", i);
                put_token(&p, id, "\"total\":1,\"uses\":1");
        }
        assert_int_equal(token_plan(&p.cluster, &(TokenRequest) {}, NOW_MS, &token, &(Error) {}), -ENOSPC);
}

#define HOST(id, key, number) .machine_id = id, .name = "n", .pin = key, .token = number, .level = LEVEL
#define HERE                  .address = "10.1.0.9:4000", .secret_hash = SECRET

static const struct JoinRow {
        JoiningHost host;
        uint64_t now_ms;
        size_t replicas;
        int error;
        const char *message; /* NULL: accepted */
        bool repeated;
} join_rows[] = {
        { { HOST(B, PIN_B, ONCE), HERE }, NOW_MS, 5 },
        { { HOST(B, PIN_B, ONCE), HERE, .exposed = true }, NOW_MS, 5 },
        { { HOST(B, PIN_B, MANY), HERE }, NOW_MS, 5 },
        { { HOST(B, PIN_B, FOR_B), HERE }, NOW_MS, 5 },
        { { HOST(B, PIN_B, LOCAL), HERE }, NOW_MS, 5 },
        { { HOST(B, PIN_B, PLACED), HERE }, NOW_MS, 2 },
        /* The key proves the former join: no token is needed, none is spent. */
        { { HOST(A, PIN_A, SPENT), HERE }, NOW_MS, 1, .repeated = true },
        { { HOST(A, PIN_A, NONE), HERE }, 3000000, 5, .repeated = true },
        { { HOST(A, PIN_A, ONCE), .secret_hash = WRONG, .address = "" }, NOW_MS, 5, .repeated = true },

        { { HOST(B, PIN_B, NONE), HERE },
          NOW_MS,
          5,
          -EACCES,
          "the cluster has no token " NONE ": it expired more than a day ago, or is of another cluster; " NEXT
          ", for a host that was a member: fleetctl token --replace=HOST" },
        { { HOST(B, PIN_B, ONCE), .secret_hash = WRONG, .address = "" },
          NOW_MS,
          5,
          -EKEYREJECTED,
          "wrong secret for token " ONCE "; copy the token again" },
        { { HOST(B, PIN_B, REVOKED), .secret_hash = WRONG, .address = "" },
          NOW_MS,
          5,
          -EKEYREJECTED,
          "wrong secret for token " REVOKED "; copy the token again" },
        { { HOST(B, PIN_B, REVOKED), HERE }, NOW_MS, 5, -EACCES, "token " REVOKED " was revoked; " NEXT },
        { { HOST(B, PIN_B, SPENT), HERE }, NOW_MS, 5, -EACCES, "token " SPENT " was used by A; " NEXT },
        { { HOST(B, PIN_B, ONCE), HERE }, 2000000, 5, -EACCES, "token " ONCE " has expired; " NEXT },
        { { HOST(B, PIN_B, ONCE), HERE }, 1999999, 5 },
        { { HOST(A, PIN_B, FOR_B), HERE },
          NOW_MS,
          5,
          -EACCES,
          "token " FOR_B " is for machine bbbbbbbb (" B "), and this host is aaaaaaaa; " KNOWN_A },
        { { HOST(A, PIN_B, SPENT), HERE }, NOW_MS, 5, -EACCES, "token " SPENT " was used by A; " KNOWN_A },
        { { HOST(A, PIN_B, REVOKED), HERE }, NOW_MS, 5, -EACCES, "token " REVOKED " was revoked; " KNOWN_A },
        { { HOST(A, PIN_B, ONCE), HERE }, 2000000, 5, -EACCES, "token " ONCE " has expired; " KNOWN_A },
        { { HOST(A, PIN_B, LOCAL), .secret_hash = SECRET, .address = "10.2.0.9:4000" },
          NOW_MS,
          5,
          -EACCES,
          "token " LOCAL
          " is for hosts of 10.1.0.0/16, and this host connects from 10.2.0.9:4000; " KNOWN_A },
        { { HOST(B, PIN_B, LOCAL), .secret_hash = SECRET, .address = "10.2.0.9:4000" },
          NOW_MS,
          5,
          -EACCES,
          "token " LOCAL " is for hosts of 10.1.0.0/16, and this host connects from 10.2.0.9:4000; " NEXT },
        { { HOST(B, PIN_B, LOCAL), .secret_hash = SECRET, .address = "" },
          NOW_MS,
          5,
          -EACCES,
          "token " LOCAL
          " is for hosts of 10.1.0.0/16, and this host connects from an unknown address; " NEXT },
        { { HOST(B, PIN_B, MANY), HERE, .exposed = true },
          NOW_MS,
          5,
          -EACCES,
          "token " MANY " has several uses, and other users of this host can see the arguments of a command; "
          "pass it on standard input: fleetctl join -" },
        { { HOST(A, PIN_B, ONCE), HERE }, NOW_MS, 5, -EEXIST, KNOWN_A },
        { { HOST(B, PIN_B, ONCE), HERE },
          NOW_MS,
          1,
          -EACCES,
          "the cluster has 1 host, and with 0 voters and 2 standbys, there are at most 1: fleetctl init "
          "--voters=5 "
          "admits seven" },
};

static void each_host_is_accepted_or_gets_the_reason(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};

        put_cluster(&p);
        for (size_t i = 0; i < ELEMENTS(join_rows); i++) {
                const struct JoinRow *row = &join_rows[i];
                JoinDecision decision = {};
                Error err = {};
                int r;

                r = join_decide(&p.cluster, &row->host, LEVEL, row->replicas, row->now_ms, &decision, &err);
                if (r != row->error || !streq(err.message, row->message ?: ""))
                        fail_msg("row %zu: %d, %s", i, r, err.message);
                if (r < 0)
                        continue;
                assert_true(pins_have(&decision.host.pins, row->host.pin));
                assert_int_equal(decision.host.pins.n, 1);
                assert_int_equal(decision.host.joined_ms, row->repeated ? 7 : row->now_ms);
                assert_string_equal(decision.host.token, row->repeated ? SPENT : row->host.token);
                assert_true(row->repeated ? !decision.token : streq(decision.token->name, row->host.token));
        }
}

#define PINS_1(a)                      \
        {                              \
                .n = 1, .items = { a } \
        }
#define PINS_2(a, b)                      \
        {                                 \
                .n = 2, .items = { a, b } \
        }
#define PIN_C "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

/* The order of keys is A, B, C. */
static void a_host_keeps_a_key_that_it_may_use(void **state) {
        static const struct {
                Pins pins, before;
                const char *used, *pin;
                int error;
                Pins expected;
        } rows[] = {
                /* The same key again; the next one, and its repetition; the former one ends with its use. */
                { PINS_1(PIN_A), PINS_1(PIN_A), PIN_A, PIN_A, 0, PINS_1(PIN_A) },
                { PINS_1(PIN_A), PINS_1(PIN_A), PIN_A, PIN_B, 0, PINS_2(PIN_B, PIN_A) },
                { PINS_2(PIN_B, PIN_A), PINS_2(PIN_B, PIN_A), PIN_A, PIN_B, 0, PINS_2(PIN_B, PIN_A) },
                { PINS_2(PIN_B, PIN_A), PINS_1(PIN_A), PIN_A, PIN_B, 0, PINS_2(PIN_B, PIN_A) },
                { PINS_2(PIN_B, PIN_A), PINS_2(PIN_B, PIN_A), PIN_B, PIN_B, 0, PINS_1(PIN_B) },
                /* A restored host has lost the next one, or its request was delayed: the second one decides.
                 */
                { PINS_2(PIN_B, PIN_A), PINS_2(PIN_B, PIN_A), PIN_A, PIN_A, 0, PINS_2(PIN_A, PIN_B) },
                { PINS_2(PIN_A, PIN_B), PINS_2(PIN_A, PIN_B), PIN_A, PIN_A, 0, PINS_1(PIN_A) },
                { PINS_2(PIN_A, PIN_B), PINS_2(PIN_A, PIN_B), PIN_B, PIN_B, 0, PINS_2(PIN_B, PIN_A) },
                /* The newest key may be stored on the host: it makes the next one, and a former one does not.
                 */
                { PINS_2(PIN_B, PIN_A), PINS_2(PIN_B, PIN_A), PIN_B, PIN_C, 0, PINS_2(PIN_C, PIN_B) },
                { PINS_2(PIN_B, PIN_A), PINS_2(PIN_B, PIN_A), PIN_A, PIN_C, -EBUSY, PINS_2(PIN_B, PIN_A) },
                /* Requests from before the newest key was recorded. */
                { PINS_2(PIN_C, PIN_B), PINS_2(PIN_B, PIN_A), PIN_B, PIN_B, -EBUSY, PINS_2(PIN_C, PIN_B) },
                { PINS_1(PIN_B), PINS_2(PIN_B, PIN_A), PIN_B, PIN_C, -EBUSY, PINS_1(PIN_B) },
                { PINS_2(PIN_B, PIN_A), PINS_1(PIN_A), PIN_A, PIN_C, -EBUSY, PINS_2(PIN_B, PIN_A) },
                /* No key of the host. */
                { PINS_1(PIN_A), PINS_1(PIN_A), "", PIN_B, -EKEYREJECTED, PINS_1(PIN_A) },
                { PINS_1(PIN_A), PINS_1(PIN_A), PIN_B, PIN_B, -EKEYREJECTED, PINS_1(PIN_A) },
                { PINS_2(PIN_B, PIN_A), PINS_2(PIN_B, PIN_A), PIN_C, PIN_C, -EKEYREJECTED,
                  PINS_2(PIN_B, PIN_A) },
                /* With the key file, a host has no key yet by which it is authenticated. */
                { PINS_1(PIN_A), PINS_1(PIN_A), "", PIN_A, 0, PINS_1(PIN_A) },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const RenewingHost host = { A, rows[i].pin, rows[i].used, &rows[i].before };
                Pins pins = rows[i].pins;
                Error err = {};
                int r;

                r = renewal_decide(&host, &pins, &err);
                if (r != rows[i].error || !*err.message != (r == 0))
                        fail_msg("row %zu: %d, %s", i, r, err.message);
                assert_int_equal(pins.n, rows[i].expected.n);
                for (size_t k = 0; k < pins.n; k++)
                        assert_string_equal(pins.items[k], rows[i].expected.items[k]);
        }
}

/* The event of a rejection begins with the address and the key of the host. */
static void the_reason_of_another_key_fits_into_an_event(void **state) {
        static const JoiningHost host = { HOST(B, PIN_B, ONCE), HERE };
        char reason[HISTORY_REASON_SIZE];
        JoinDecision decision = {};
        _cleanup_cluster_view_ ClusterView p = {};
        Error err = {};

        put_cluster(&p);
        cluster_view_put(&p, "/_fleet/cluster/member/" B,
                         "{\"name\":\"a-name-of-sixty-four-bytes-which-is-the-most-that-a-host-name-ha\","
                         "\"raftId\":2}");
        assert_int_equal(join_decide(&p.cluster, &host, LEVEL, 5, NOW_MS, &decision, &err), -EEXIST);
        text_format(reason, sizeof(reason), "a host at %s, key %.8s: %s",
                    "[fd00:1111:2222:3333:4444:5555:6666:7777]:65535", PIN_B, err.message);
        assert_true(ends_with(reason, "; if a copy: fleetctl help add"));
        assert_non_null(strstr(reason, "another key (bbbbbbbb); if installed again"));
}

static void a_restricted_host_holds_no_replica(void **state) {
        JoiningHost member = { HOST(A, PIN_B, ONCE), HERE }, host = { HOST(B, PIN_B, ONCE), HERE };

        JoinDecision decision = {};
        _cleanup_cluster_view_ ClusterView p = {};
        Error err = {};

        put_cluster(&p);
        put_token(&p, ONCE, "\"replace\":\"" A "\",\"restricted\":true,\"total\":1,\"uses\":1");
        assert_int_equal(join_decide(&p.cluster, &member, LEVEL, 5, NOW_MS, &decision, &err), -EPERM);
        assert_non_null(strstr(err.message, "A holds a replica, which a restricted host does not"));
        put_token(&p, ONCE, "\"restricted\":true,\"total\":1,\"uses\":1,\"write\":\"/app\"");
        assert_int_equal(join_decide(&p.cluster, &host, LEVEL, 5, NOW_MS, &decision, &err), 0);
        assert_true(decision.host.restricted);
        assert_string_equal(decision.host.write, "/app");
}

/* A host that was installed again gets no more rights than it had. */
static void a_replaced_host_stays_restricted(void **state) {
        static const struct {
                TokenRequest request;
                bool restricted;
                const char *write;
        } rows[] = {
                { { .level = 6, .replace = B }, true, "/app" },
                { { .level = 6, .replace = B, .write = "/b" }, true, "/b" },
                { { .level = 6, .replace = B, .restricted = true }, true, "" },
                { { .level = 6, .replace = B, .ordinary = true }, false, "" },
                { { .level = 6, .replace = C }, false, "" },
        };
        _cleanup_cluster_view_ ClusterView p = {};

        put_cluster(&p);
        cluster_view_remove(&p, "/_fleet/cluster/member/" B);
        cluster_view_put(&p, "/_fleet/cluster/host/" B,
                         "{\"pins\":[\"" PIN_A "\"],\"restricted\":true,\"write\":\"/app\"}");
        cluster_view_put(&p, "/_fleet/cluster/host/" C, "{\"pins\":[\"" PIN_B "\"]}");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                TokenRecord token = {};
                Error err = {};

                if (token_plan(&p.cluster, &rows[i].request, NOW_MS, &token, &err) < 0)
                        fail_msg("row %zu: %s", i, err.message);
                assert_int_equal(token.restricted, rows[i].restricted);
                assert_string_equal(token.write, rows[i].write);
                token_record_done(&token);
        }
}

static void tokens_are_of_restricted_hosts_where_the_settings_say_so(void **state) {
        static const struct {
                TokenRequest request;
                bool restricted;
                int error;
        } rows[] = {
                { { .level = 6 }, true, 0 },
                { { .level = 6, .write = "/app" }, true, 0 },
                { { .level = 6, .restricted = true }, true, 0 },
                { { .level = 6, .ordinary = true }, false, 0 },
                { { .level = 6, .ordinary = true, .restricted = true }, true, 0 },
                { { .level = 5 }, true, -EINVAL },
                { { .level = 6, .replace = "A" }, true, -EPERM },
                { { .level = 6, .replace = "A", .ordinary = true }, false, 0 },
        };
        _cleanup_cluster_view_ ClusterView p = {};

        put_cluster(&p);
        cluster_view_put(&p, "/_fleet/cluster/settings", "{\"restricted\":true}");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                TokenRecord token = {};
                Error err = {};

                assert_int_equal(token_plan(&p.cluster, &rows[i].request, NOW_MS, &token, &err),
                                 rows[i].error);
                assert_int_equal(token.restricted, rows[i].error == 0 && rows[i].restricted);
                token_record_done(&token);
        }
}

static void an_old_program_is_rejected_before_its_token(void **state) {
        JoiningHost host = { HOST(B, PIN_B, ONCE), HERE };
        ClusterView p = {};
        Error err = {};

        host.level = LEVEL - 1;
        assert_int_equal(join_decide(&p.cluster, &host, LEVEL, 5, NOW_MS, &(JoinDecision) {}, &err), -EACCES);
        assert_string_equal(
                err.message,
                "this host supports feature level 4, and the cluster has 5: upgrade fleetd on this host");
}

static void a_removed_or_replaced_host_joins_again(void **state) {
        JoiningHost removed = { HOST(A, PIN_A, ONCE), HERE }, replaced = { HOST(A, PIN_B, ONCE), HERE };
        _cleanup_cluster_view_ ClusterView p = {};
        JoinDecision decision = {};
        Error err = {};

        put_cluster(&p);
        /* Its key counts no more, even if its record is still there: it needs a token. */
        cluster_view_put(&p, "/_fleet/cluster/removed/" A, "{\"since\":9}");
        cluster_view_put(&p, "/_fleet/cluster/token/" SPENT,
                         "{\"expires\":2000000,\"hash\":\"" SECRET "\",\"total\":1}");
        removed.token = SPENT;
        assert_int_equal(join_decide(&p.cluster, &removed, LEVEL, 5, NOW_MS, &decision, &err), -EACCES);
        cluster_view_remove(&p, "/_fleet/cluster/host/" A);
        removed.token = ONCE;
        assert_int_equal(join_decide(&p.cluster, &removed, LEVEL, 5, NOW_MS, &decision, &err), 0);
        assert_string_equal(decision.token->name, ONCE);

        /* A stolen key does not return, even with a valid token; another key does. */
        cluster_view_put(&p, "/_fleet/cluster/removed/" A,
                         "{\"pin\":\"" PIN_A "\",\"reason\":\"compromised\"}");
        assert_int_equal(join_decide(&p.cluster, &removed, LEVEL, 5, NOW_MS, &decision, &err), -EACCES);
        assert_non_null(strstr(err.message, "the key of this host is compromised"));
        cluster_view_put(&p, "/_fleet/cluster/removed/" A,
                         "{\"pin2\":\"" PIN_A "\",\"reason\":\"compromised\"}");
        assert_int_equal(join_decide(&p.cluster, &removed, LEVEL, 5, NOW_MS, &decision, &err), -EACCES);
        assert_int_equal(join_decide(&p.cluster, &replaced, LEVEL, 5, NOW_MS, &decision, &err), 0);
        cluster_view_put(&p, "/_fleet/cluster/removed/" A, "{\"pin\":\"" PIN_A "\",\"reason\":\"lost\"}");
        assert_int_equal(join_decide(&p.cluster, &removed, LEVEL, 5, NOW_MS, &decision, &err), 0);

        /* Nor after its tombstone, nor under another machine ID. */
        cluster_view_remove(&p, "/_fleet/cluster/removed/" A);
        cluster_view_put(&p, "/_fleet/cluster/denied/" PIN_A, "{\"machine\":\"" A "\",\"since\":5}");
        assert_int_equal(join_decide(&p.cluster, &removed, LEVEL, 5, NOW_MS, &decision, &err), -EACCES);
        cluster_view_remove(&p, "/_fleet/cluster/denied/" PIN_A);
        cluster_view_put(&p, "/_fleet/cluster/removed/" B,
                         "{\"pin\":\"" PIN_A "\",\"reason\":\"compromised\"}");
        assert_int_equal(join_decide(&p.cluster, &removed, LEVEL, 5, NOW_MS, &decision, &err), -EACCES);
        cluster_view_remove(&p, "/_fleet/cluster/removed/" B);

        /* A member without a certificate is not taken over by a token for any host. */
        cluster_view_remove(&p, "/_fleet/cluster/removed/" A);
        cluster_view_put(&p, "/_fleet/cluster/member/" A, "{\"raftId\":1}");
        assert_int_equal(join_decide(&p.cluster, &removed, LEVEL, 5, NOW_MS, &decision, &err), -EEXIST);
        cluster_view_remove(&p, "/_fleet/cluster/member/" A);

        cluster_view_put(&p, "/_fleet/cluster/host/" A, "{\"pins\":[\"" PIN_A "\"]}");
        put_token(&p, ONCE, "\"replace\":\"" A "\",\"total\":1,\"uses\":1");
        assert_int_equal(join_decide(&p.cluster, &replaced, LEVEL, 1, NOW_MS, &decision, &err), 0);
        assert_string_equal(decision.host.pins.items[0], PIN_B);
        assert_int_equal(decision.host.pins.n, 1);

        cluster_view_unreadable(&p, LAYOUT_HOST, NULL, "A");
        assert_int_equal(join_decide(&p.cluster, &replaced, LEVEL, 5, NOW_MS, &decision, &err), -EACCES);
        assert_non_null(strstr(err.message, "cannot be read"));
}

/* Hosts that were removed leave room; hosts that have joined and hold no replica yet do not. */
static void hosts_of_the_cluster_are_counted_once(void **state) {
        JoiningHost host = { HOST(B, PIN_B, ONCE), HERE };
        _cleanup_cluster_view_ ClusterView p = {};
        JoinDecision decision;

        put_cluster(&p);
        cluster_view_put(&p, "/_fleet/cluster/host/cccccccccccccccccccccccccccccccc",
                         "{\"pins\":[\"" PIN_B "\"]}");
        cluster_view_put(&p, "/_fleet/cluster/member/dddddddddddddddddddddddddddddddd", "{\"raftId\":4}");
        assert_int_equal(join_decide(&p.cluster, &host, LEVEL, 3, NOW_MS, &decision, &(Error) {}), -EACCES);
        assert_int_equal(join_decide(&p.cluster, &host, LEVEL, 4, NOW_MS, &decision, &(Error) {}), 0);
        cluster_view_put(&p, "/_fleet/cluster/removed/dddddddddddddddddddddddddddddddd", "{}");
        assert_int_equal(join_decide(&p.cluster, &host, LEVEL, 3, NOW_MS, &decision, &(Error) {}), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_network_contains_its_addresses),
                cmocka_unit_test(a_token_is_planned_within_its_limits),
                cmocka_unit_test(metadata_of_a_token_is_checked_and_copied),
                cmocka_unit_test(the_number_of_tokens_is_limited),
                cmocka_unit_test(each_host_is_accepted_or_gets_the_reason),
                cmocka_unit_test(a_host_keeps_a_key_that_it_may_use),
                cmocka_unit_test(the_reason_of_another_key_fits_into_an_event),
                cmocka_unit_test(a_restricted_host_holds_no_replica),
                cmocka_unit_test(a_replaced_host_stays_restricted),
                cmocka_unit_test(tokens_are_of_restricted_hosts_where_the_settings_say_so),
                cmocka_unit_test(an_old_program_is_rejected_before_its_token),
                cmocka_unit_test(a_removed_or_replaced_host_joins_again),
                cmocka_unit_test(hosts_of_the_cluster_are_counted_once),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
