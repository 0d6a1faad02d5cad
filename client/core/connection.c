#include "client/core/connection.h"

#include <curl/curl.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "units/api_json.h"

enum { INTERRUPTED_MS = 3000, STREAM_WAIT_MS = 60000 };

struct Connection {
        ConnectionSettings settings; /* without 'endpoint' */
        CURL *easy;                  /* kept between requests, and with it the connection */
        char *socket;                /* path of a unix socket, or NULL */
        char *base;                  /* prefix of all paths: "http://localhost", "https://host:port" */
        uint64_t limit_ms;
        long status;             /* of the last answer */
        uint64_t stale_s;        /* the longest Reply.stale_s so far */
        bool is_stale;           /* the last reply was */
        const sigset_t *signals; /* of connection_interrupt() */
        uint64_t interrupted_ms; /* when this request noticed a pending signal; 0: none is pending */
        char problem[CURL_ERROR_SIZE];
};

struct Stream {
        Connection *connection; /* borrowed */
        CURLM *multi;
        CURL *easy;
        StreamLine line;
        void *userdata;
        Reply reply; /* header, and body of an error answer */
        Text partial;
        size_t n_lines;
        int result; /* negative: what the callback returned */
        bool ended;
        CURLcode code;
};

void append_escaped_bytes(Text *t, const void *bytes, size_t size, bool keep_slashes) {
        const char *s = bytes;

        for (const char *end = s + size; s < end; s++)
                if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
                    (*s && strchr("-._~", *s)) || (keep_slashes && *s == '/'))
                        text_append_char(t, *s);
                else
                        text_printf(t, "%%%02X", (unsigned char) *s);
}

void append_escaped(Text *t, const char *s, bool keep_slashes) {
        append_escaped_bytes(t, s, strlen(s), keep_slashes);
}

void reply_done(Reply *reply) {
        text_done(&reply->body);
        *reply = (Reply) {};
}

/* Split an endpoint into socket and base. The messages for invalid endpoints are those of fleet. */
static int endpoint_parse(Connection *c, const char *endpoint, Error *err) {
        const char *rest = strstr(endpoint, "://");
        size_t scheme = rest ? (size_t) (rest - endpoint) : 0;

        if (scheme == 0)
                return error_set(err, -EINVAL, "URL scheme undefined");
        rest += strlen("://");

        if (starts_with(endpoint, "unix://") || starts_with(endpoint, "file://")) {
                size_t host = strcspn(rest, "/");

                if (host > 0)
                        return error_set(err, -EINVAL,
                                         "unable to connect to host \"%.*s\" with scheme \"%.*s\"",
                                         (int) host, rest, (int) scheme, endpoint);
                if (!*rest)
                        return error_set(err, -EINVAL, "endpoint %s names no socket", endpoint);
                c->socket = strdup(rest);
                c->base = strdup("http://localhost");
                return c->socket && c->base ? 0 : -ENOMEM;
        }
        if (!starts_with(endpoint, "http://") && !starts_with(endpoint, "https://"))
                return error_set(err, -EINVAL, "unsupported protocol scheme \"%.*s\"", (int) scheme,
                                 endpoint);

        c->base = strdup(endpoint);
        if (!c->base)
                return -ENOMEM;
        for (size_t n = strlen(c->base); n > 0 && c->base[n - 1] == '/'; n--)
                c->base[n - 1] = 0;
        return 0;
}

/* Read the number of a header, if this is the header of that name. */
static void header_number(const char *bytes, size_t size, const char *name, uint64_t *ret) {
        size_t at = strlen(name), used = 0;
        char number[24];

        if (size <= at || strncasecmp(bytes, name, at) != 0)
                return;
        while (at < size && bytes[at] == ' ')
                at++;
        while (at < size && bytes[at] >= '0' && bytes[at] <= '9' && used < sizeof(number) - 1)
                number[used++] = bytes[at++];
        number[used] = 0;
        (void) parse_u64(number, ret);
}

static size_t on_header(char *bytes, size_t one, size_t n, void *userdata) {
        Reply *reply = userdata;

        header_number(bytes, one * n, "x-etcd-index:", &reply->index);
        header_number(bytes, one * n, "x-fleet-stale:", &reply->stale_s);
        return one * n;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *userdata) {
        Reply *reply = userdata;

        if (reply->body.size + one * n > REPLY_SIZE_MAX)
                return 0;
        text_append_bytes(&reply->body, bytes, one * n);
        return reply->body.error < 0 ? 0 : one * n;
}

static void set_text(CURL *easy, CURLoption option, const char *value) {
        if (value && *value)
                (void) curl_easy_setopt(easy, option, value);
}

/* Set the options that requests and streams have in common. */
static int easy_set_up(Connection *c, CURL *easy, const char *method, const char *path, Reply *reply) {
        _cleanup_text_ Text url = {};

        if (!path)
                return -ENOMEM;
        text_printf(&url, "%s%s", c->base, path);
        TRY(url.error);
        if (c->settings.debug)
                fprintf(stderr, "DEBUG %s %s\n", method, url.chars);

        c->problem[0] = 0;
        reply->plain = c->settings.plain;
        (void) curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        (void) curl_easy_setopt(easy, CURLOPT_NOPROXY, "*"); /* fleetd is on this network */
        (void) curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->problem);
        (void) curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) c->settings.read_ms);
        (void) curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
        (void) curl_easy_setopt(easy, CURLOPT_USERAGENT, "fleetctl/" PACKAGE_VERSION);
        (void) curl_easy_setopt(easy, CURLOPT_URL, url.chars); /* copied */
        (void) curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
        (void) curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
        (void) curl_easy_setopt(easy, CURLOPT_HEADERDATA, reply);
        set_text(easy, CURLOPT_UNIX_SOCKET_PATH, c->socket);
        set_text(easy, CURLOPT_CAINFO, c->settings.ca_file);
        if (c->settings.ca_file && *c->settings.ca_file) /* these CAs only: none of the system */
                (void) curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        set_text(easy, CURLOPT_SSLCERT, c->settings.cert_file);
        set_text(easy, CURLOPT_SSLKEY, c->settings.key_file);
        return 0;
}

int connection_new(const ConnectionSettings *settings, Connection **ret, Error *err) {
        _cleanup_connection_ Connection *c = NEW0(Connection, 1);

        if (!c)
                return -ENOMEM;
        c->settings = *settings;
        c->settings.endpoint = NULL;
        c->limit_ms = UINT64_MAX;
        TRY(endpoint_parse(c, settings->endpoint, err));

        c->easy = curl_easy_init();
        if (!c->easy)
                return -ENOMEM;
        *ret = TAKE_PTR(c);
        return 0;
}

Connection *connection_free(Connection *c) {
        if (!c)
                return NULL;
        if (c->easy)
                curl_easy_cleanup(c->easy);
        free(c->socket);
        free(c->base);
        free(c);
        return NULL;
}

/* Translate an error of curl about TLS; 0: it is none. */
static int tls_error(const Connection *c, CURLcode code, const char *problem, Error *err) {
        bool has_certificate = c->settings.cert_file && *c->settings.cert_file;

        if (!starts_with(c->base, "https:"))
                return 0;
        switch (code) {
        case CURLE_PEER_FAILED_VERIFICATION:
                return error_set(err, -EPROTO,
                                 "fleetd at %s cannot be verified: %s; --ca-file is the ca.pem of fleetctl "
                                 "cert, and the endpoint has a name or address of ListenTLS= or ServerNames=",
                                 c->base, problem);
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CONNECT_ERROR:
                return error_set(err, -EPROTO,
                                 "no TLS with fleetd at %s: %s; --cert-file is NAME.pem, --key-file NAME.key "
                                 "and --ca-file ca.pem of fleetctl cert",
                                 c->base, problem);
        case CURLE_GOT_NOTHING:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
                if (!has_certificate)
                        return error_set(
                                err, -EACCES,
                                "fleetd at %s closed the connection: it requires the certificate of "
                                "a user, --cert-file and --key-file (fleetctl cert NAME on a host of "
                                "the cluster)",
                                c->base);
                if (strstr(problem, "alert"))
                        return error_set(err, -EACCES, "fleetd at %s rejected the certificate %s: %s",
                                         c->base, c->settings.cert_file, problem);
                return 0;
        default:
                return 0;
        }
}

/* Translate an error of curl. */
static int transport_error(const Connection *c, CURL *easy, CURLcode code, uint64_t limit_ms, bool change,
                           Error *err) {
        const char *where = c->socket ? c->socket : c->base,
                   *problem = c->problem[0] ? c->problem : curl_easy_strerror(code),
                   *unknown = change ? ", the change may still be made" : "";
        long number = 0;

        TRY(tls_error(c, code, problem, err));
        switch (code) {
        case CURLE_OUT_OF_MEMORY:
                return -ENOMEM;
        case CURLE_FILESIZE_EXCEEDED:
        case CURLE_WRITE_ERROR:
                return error_set(err, -EFBIG, "the answer of fleetd at %s is larger than %d bytes", where,
                                 REPLY_SIZE_MAX);
        case CURLE_OPERATION_TIMEDOUT:
                return error_set(err, -ETIMEDOUT,
                                 "no answer from fleetd at %s within %g s%s; see --request-timeout", where,
                                 limit_ms / 1000.0, unknown);
        case CURLE_ABORTED_BY_CALLBACK:
                return error_set(err, -EINTR, "the request was interrupted: no answer from fleetd at %s%s",
                                 where, unknown);
        case CURLE_COULDNT_CONNECT:
                /* access() finds a reason that curl does not report; it is used for the message only. */
                if (c->socket && access(c->socket, W_OK) < 0 && (errno == EACCES || errno == EPERM))
                        return error_set(
                                err, -EACCES,
                                "cannot reach fleetd at %s: permission denied; it is for root and group "
                                "fleet, whose members are root on all hosts; for less: LocalRights= in "
                                "fleetd.conf(5)",
                                where);
                if (c->socket)
                        return error_set(err, -ECONNREFUSED,
                                         "no fleetd listens at %s; systemctl start fleetd", where);
                (void) curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
                return error_set(err, -ECONNREFUSED, "cannot reach fleetd at %s: %s", where,
                                 number > 0 ? strerror((int) number) : problem);
        case CURLE_GOT_NOTHING:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
        case CURLE_PARTIAL_FILE:
                return error_set(err, -ECONNRESET,
                                 "fleetd at %s closed the connection%s; journalctl -u fleetd", where,
                                 unknown);
        default:
                return error_set(err, code == CURLE_COULDNT_RESOLVE_HOST ? -ECONNREFUSED : -EIO,
                                 "cannot reach fleetd at %s: %s", where, problem);
        }
}

void connection_limit(Connection *c, uint64_t limit_ms) {
        c->limit_ms = limit_ms > 0 ? limit_ms : UINT64_MAX;
}

void connection_interrupt(Connection *c, const sigset_t *signals) {
        c->signals = signals;
}

/* Called at least once a second. */
static int on_progress(void *userdata, curl_off_t to_receive, curl_off_t received, curl_off_t to_send,
                       curl_off_t sent) {
        Connection *c = userdata;
        sigset_t pending;

        if (sigpending(&pending) < 0 || sigandset(&pending, &pending, c->signals) < 0 ||
            sigisemptyset(&pending))
                return 0;
        if (c->interrupted_ms == 0)
                c->interrupted_ms = clock_monotonic_ms();
        return clock_monotonic_ms() - c->interrupted_ms >= INTERRUPTED_MS;
}

static void connection_note_stale(Connection *c, const Reply *reply) {
        c->stale_s = MAX(c->stale_s, reply->stale_s);
        c->is_stale = reply->stale_s > 0;
}

/* Send the request that is set up, and complete its reply. */
static int connection_perform(Connection *c, Reply *reply, uint64_t limit_ms, bool change, Error *err) {
        CURLcode code = curl_easy_perform(c->easy);

        if (reply->body.error < 0)
                return -ENOMEM;
        if (code != CURLE_OK)
                return transport_error(c, c->easy, code, limit_ms, change, err);
        (void) curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &reply->status);
        c->status = reply->status;
        connection_note_stale(c, reply);
        if (c->settings.debug)
                fprintf(stderr, "DEBUG %ld, %zu bytes\n", reply->status, reply->body.size);
        text_append(&reply->body, ""); /* terminated, even if empty */
        return 0;
}

int connection_request(Connection *c, const char *method, const char *path, const char *type,
                       const Text *body, Reply *ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        struct curl_slist headers = { .data = (char *) type };
        bool change = !streq(method, "GET");
        uint64_t limit_ms = MIN(change ? c->settings.write_ms : c->settings.read_ms, c->limit_ms);

        curl_easy_reset(c->easy);
        if ((body && body->error < 0) || easy_set_up(c, c->easy, method, path, &reply) < 0)
                return -ENOMEM;
        if (body && body->chars) {
                (void) curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, &headers);
                (void) curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) body->size);
                (void) curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, body->chars);
        }
        (void) curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long) limit_ms);
        (void) curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
        (void) curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, &reply);
        c->interrupted_ms = 0;
        if (c->signals) {
                (void) curl_easy_setopt(c->easy, CURLOPT_NOPROGRESS, 0L);
                (void) curl_easy_setopt(c->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
                (void) curl_easy_setopt(c->easy, CURLOPT_XFERINFODATA, c);
        }
        TRY(connection_perform(c, &reply, limit_ms, change, err));
        *ret = TAKE_STRUCT(reply);
        return 0;
}

bool connection_is_denied(const Connection *c) {
        return c->status == 401 || c->status == 403;
}

bool connection_is_lost(int r) {
        return r == -ECONNRESET || r == -ECONNREFUSED || r == -ETIMEDOUT;
}

uint64_t connection_stale_s(const Connection *c) {
        return c->stale_s;
}

bool connection_is_stale(const Connection *c) {
        return c->is_stale;
}

typedef struct Download {
        CURL *easy;
        int fd, error;
        uint64_t rest; /* bytes that may follow */
        Reply *reply;
} Download;

static size_t on_download(char *bytes, size_t one, size_t n, void *userdata) {
        Download *d = userdata;
        long status = 0;

        (void) curl_easy_getinfo(d->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200)
                return on_body(bytes, one, n, d->reply);
        d->error = one * n > d->rest ? -EFBIG : write_all(d->fd, bytes, one * n);
        d->rest -= MIN(d->rest, one * n);
        return d->error < 0 ? 0 : one * n;
}

int connection_download(Connection *c, const char *path, int fd, uint64_t limit, uint64_t silence_ms,
                        Reply *ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        Download d = { .easy = c->easy, .fd = fd, .rest = limit, .reply = &reply };
        int r;

        curl_easy_reset(c->easy);
        if (easy_set_up(c, c->easy, "GET", path, &reply) < 0)
                return -ENOMEM;
        (void) curl_easy_setopt(c->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        (void) curl_easy_setopt(c->easy, CURLOPT_LOW_SPEED_TIME, (long) (silence_ms / 1000));
        (void) curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_download);
        (void) curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, &d);
        r = connection_perform(c, &reply, silence_ms, false, err);
        if (d.error < 0)
                return error_set(err, d.error, "%s", strerror(-d.error));
        if (r < 0)
                return r;
        *ret = TAKE_STRUCT(reply);
        return 0;
}

static const char answer_mark[] = "googleapi: Error ", answer_empty[] = "googleapi: got ";

bool reply_lacks_leader(const Reply *reply) {
        return reply->status >= 500 && reply->stale_s > 0;
}

int reply_check(const Reply *reply, Error *err) {
        char message[ERROR_MESSAGE_MAX];
        int code;

        if (reply->status >= 200 && reply->status < 300)
                return 0;
        if (api_error_read(reply->body.chars ? reply->body.chars : "", reply->body.size, &code, message,
                           sizeof(message)) < 0 ||
            !message[0]) {
                if (reply->plain && reply->status == HTTP_NOT_FOUND)
                        return error_set(err, -EREMOTEIO,
                                         "the fleetd that was asked is of a version without it");
                return error_set(err, -EREMOTEIO, "%sHTTP response code %ld with body: %s", answer_empty,
                                 reply->status, reply->body.chars ? reply->body.chars : "");
        }
        if (reply->plain && reply->status < 500)
                return error_set(err, -EREMOTEIO, "%s", message);
        (void) error_set(err, -EREMOTEIO, "%s%ld: %s", answer_mark, reply->status, message);
        if (err && reply_lacks_leader(reply))
                err->next = NEXT_WITHOUT_LEADER;
        return -EREMOTEIO;
}

bool answer_error_read(int r, const char *message, AnswerError *ret) {
        const char *mark = r == -EREMOTEIO ? strstr(message, answer_mark) : NULL;
        char *end;

        if (!mark)
                return false;
        *ret = (AnswerError) { .status = strtol(mark + strlen(answer_mark), &end, 10), .mark = mark };
        if (!starts_with(end, ": "))
                return false;
        ret->text = end + 2;
        return true;
}

static size_t on_stream(char *bytes, size_t one, size_t n, void *userdata) {
        Stream *s = userdata;
        size_t size = one * n;
        long status = 0;

        (void) curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200)
                return on_body(bytes, one, n, &s->reply);

        for (size_t at = 0; at < size;) {
                const char *newline = memchr(bytes + at, '\n', size - at);
                size_t part = newline ? (size_t) (newline - bytes) - at : size - at;

                if (s->partial.size + part > LINE_SIZE_MAX)
                        return 0;
                text_append_bytes(&s->partial, bytes + at, part);
                if (s->partial.error < 0)
                        return 0;
                at += part + (newline ? 1 : 0);
                if (!newline)
                        break;
                if (s->partial.size == 0) /* keep-alive */
                        continue;

                s->n_lines++;
                s->result = s->line(s->userdata, s->partial.chars, s->partial.size);
                if (s->result < 0)
                        return 0;
                text_clear(&s->partial);
        }
        return size;
}

int stream_new(Connection *c, const char *method, const char *path, StreamLine line, void *userdata,
               Stream **ret, Error *err) {
        _cleanup_stream_ Stream *s = NEW0(Stream, 1);

        if (!s)
                return -ENOMEM;
        *s = (Stream) { .connection = c, .line = line, .userdata = userdata };
        s->easy = curl_easy_init();
        s->multi = curl_multi_init();
        if (!s->easy || !s->multi || easy_set_up(c, s->easy, method, path, &s->reply) < 0)
                return -ENOMEM;
        (void) curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_stream);
        (void) curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
        if (curl_multi_add_handle(s->multi, s->easy) != CURLM_OK)
                return error_set(err, -ENOMEM, "Failed to start a stream");
        *ret = TAKE_PTR(s);
        return 0;
}

long stream_status(const Stream *s) {
        return s->reply.status;
}

Reply stream_take_reply(Stream *s) {
        return TAKE_STRUCT(s->reply);
}

Stream *stream_free(Stream *s) {
        if (!s)
                return NULL;
        if (s->multi && s->easy)
                (void) curl_multi_remove_handle(s->multi, s->easy);
        if (s->easy)
                curl_easy_cleanup(s->easy);
        if (s->multi)
                (void) curl_multi_cleanup(s->multi);
        reply_done(&s->reply);
        text_done(&s->partial);
        free(s);
        return NULL;
}

static int stream_end(Stream *s, Error *err) {
        if (s->result < 0)
                return s->result;
        TRY(MIN(s->partial.error, s->reply.body.error));
        if (s->code != CURLE_OK)
                return transport_error(s->connection, s->easy, s->code, s->connection->settings.read_ms,
                                       false, err);
        connection_note_stale(s->connection, &s->reply);
        TRY(reply_check(&s->reply, err));
        return -ENODATA;
}

int stream_wait(Stream *s, uint64_t timeout_ms, Error *err) {
        uint64_t end_ms = clock_monotonic_ms() + timeout_ms;
        size_t before = s->n_lines;

        for (;;) {
                uint64_t now_ms = clock_monotonic_ms();
                int running = 0, left;
                CURLMsg *message;

                if (!s->ended) {
                        (void) curl_multi_perform(s->multi, &running);
                        while ((message = curl_multi_info_read(s->multi, &left)))
                                if (message->msg == CURLMSG_DONE) {
                                        s->ended = true;
                                        s->code = message->data.result;
                                }
                        (void) curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &s->reply.status);
                }
                if (s->n_lines > before && s->result >= 0)
                        return 1;
                if (s->ended)
                        return stream_end(s, err);
                if (now_ms >= end_ms)
                        return 0;
                if (curl_multi_poll(s->multi, NULL, 0, (int) MIN(end_ms - now_ms, (uint64_t) STREAM_WAIT_MS),
                                    NULL) != CURLM_OK)
                        return -EIO;
        }
}

int connection_follow(Connection *c, const char *method, const char *path, StreamLine line, void *userdata,
                      Reply *ret_reply, Error *err) {
        _cleanup_stream_ Stream *s = NULL;
        int r;

        r = TRY(stream_new(c, method, path, line, userdata, &s, err));
        do
                r = stream_wait(s, STREAM_WAIT_MS, err);
        while (r >= 0);
        if (ret_reply)
                *ret_reply = stream_take_reply(s);
        return r == -ENODATA ? 0 : r;
}
