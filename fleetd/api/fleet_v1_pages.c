/* Pages of lists, as fleet's API has them. A token is base64 of two little-endian 16-bit numbers, limit and
 * page. Where a page before it ended early, the position of the first item follows, 32 bits, and in a long
 * list then the key of the item before it; fleet reads neither. The key makes the cost of a page independent
 * of the length of the list, and what is added or removed before it shifts no item. */
#include "fleetd/api/fleet_v1.h"

enum { COUNTED_MAX = 10 * PAGE_SIZE }; /* items before a page whose token has no key */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void page_token_write(unsigned page, size_t first, const char *after,
                             char ret[static PAGE_TOKEN_SIZE]) {
        uint8_t b[8 + PAGE_KEY_SIZE + 2] = { PAGE_SIZE & 0xff,   PAGE_SIZE >> 8,    page & 0xff,
                                             page >> 8,          first & 0xff,      first >> 8 & 0xff,
                                             first >> 16 & 0xff, first >> 24 & 0xff };
        size_t n = *after || first != (size_t) (page - 1) * PAGE_SIZE ? 8 : 4;
        char *end = ret;

        memcpy(b + 8, after, strlen(after));
        n += strlen(after);
        memset(b + n, 0, sizeof(b) - n);
        for (unsigned i = 0; 3 * i < n; i++) {
                uint32_t v = (uint32_t) b[3 * i] << 16 | (uint32_t) b[3 * i + 1] << 8 | b[3 * i + 2];

                for (unsigned k = 0; k < 4; k++)
                        *end++ = alphabet[(v >> (18 - 6 * k)) & 63];
        }
        *end = 0;
        for (; n % 3 > 0; n++)
                *--end = '=';
}

/* Decode base64 as Go does: line ends are skipped, padding is required, nothing may follow it. At most 'size'
 * bytes are stored; *ret_n counts all. -EINVAL: *ret_at is the position that Go reports. */
static int token_decode(const char *s, uint8_t *ret, size_t size, size_t *ret_n, size_t *ret_at) {
        size_t n_bytes = 0, n = strlen(s), i = 0;
        bool padded = false;

        for (;;) {
                uint32_t v = 0;
                unsigned k = 0;

                for (; k < 4 && !padded; i++) {
                        const char *at = i < n ? strchr(alphabet, s[i]) : NULL;

                        if (i >= n && k == 0) {
                                *ret_n = n_bytes;
                                return 0;
                        }
                        if (at) {
                                v |= (uint32_t) (at - alphabet) << (18 - 6 * k++);
                                continue;
                        }
                        if (s[i] == '\r' || s[i] == '\n')
                                continue;
                        *ret_at = i < n ? i : i - k;
                        if (s[i] != '=' || k < 2)
                                return -EINVAL;
                        for (unsigned due = 4 - k; due > 1; due--) {
                                i += 1 + strspn(s + i + 1, "\r\n");
                                *ret_at = i < n ? i - 1 : n;
                                if (s[i] != '=')
                                        return -EINVAL;
                        }
                        padded = true;
                }
                for (unsigned b = 0; b + 1 < k; b++, n_bytes++)
                        if (n_bytes < size)
                                ret[n_bytes] = v >> (16 - 8 * b);
                if (!padded)
                        continue;
                i += strspn(s + i, "\r\n");
                *ret_n = n_bytes;
                *ret_at = i;
                return i < n ? -EINVAL : 0;
        }
}

static int page_token_read(const char *s, Page *ret, Error *err) {
        uint8_t b[8 + PAGE_KEY_SIZE] = {};
        size_t n, at;

        if (token_decode(s, b, sizeof(b) - 1, &n, &at) < 0)
                return error_set(err, -EINVAL, "illegal base64 data at input byte %zu", at);
        if (n < 4)
                return error_set(err, -EINVAL, "%s", n == 0 ? "EOF" : "unexpected EOF");
        if ((b[0] | b[1] << 8) != PAGE_SIZE)
                return error_set(err, -EINVAL, "token limit must be %d", PAGE_SIZE);
        ret->number = b[2] | b[3] << 8;
        if (ret->number == 0)
                return error_set(err, -EINVAL, "token page must be greater than zero");
        ret->first = n < 8 ? (size_t) (ret->number - 1) * PAGE_SIZE :
                             (size_t) b[4] | b[5] << 8 | b[6] << 16 | (size_t) b[7] << 24;
        snprintf(ret->after, sizeof(ret->after), "%s", (const char *) b + 8);
        return 0;
}

bool page_of(const Request *request, Page *ret, Error *err) {
        const char *token = NULL;

        *ret = (Page) { .number = 1 };
        for (size_t i = 0; i < request->parameters.n; i++) {
                if (!streq(request->parameters.items[i].name, "nextPageToken"))
                        continue;
                if (token) {
                        error_set(err, -EINVAL, "too many values for page token");
                        return false;
                }
                token = request->parameters.items[i].value;
        }
        if (token && page_token_read(token, ret, err) < 0)
                return false;
        ret->skip = ret->first;
        return true;
}

bool page_wants(const Page *page) {
        return !page->full && page->n < PAGE_SIZE;
}

bool page_skips(Page *page) {
        if (page->skip == 0)
                return false;
        page->skip--;
        return true;
}

void page_add(Page *page, const char *name, const char *machine) {
        page->n++;
        snprintf(page->last, sizeof(page->last), "%s%s%s", name ?: "", machine ? "/" : "", machine ?: "");
}

const char *page_next(Page *page, bool more) {
        size_t end = page->first + page->n;

        if (!more)
                return NULL;
        page_token_write(MIN(page->number + 1, (unsigned) UINT16_MAX), end,
                         end > COUNTED_MAX ? page->last : "", page->token);
        return page->token;
}

/* -- Short lists, without pages -- */

static int named_compare(const void *a, const void *b) {
        return strcmp((*(const ClusterNamed *const *) a)->name, (*(const ClusterNamed *const *) b)->name);
}

unsigned request_answer_named(Request *request, const char *name, LayoutKind kind,
                              void (*write)(Text *t, const Cluster *c, const ClusterNamed *x)) {
        const Cluster *c = registry_cluster(request->api->host->registry);
        const ClusterNamed *table = c->tables[kind - KIND_FIRST_BY_NAME];
        _cleanup_free_ const ClusterNamed **sorted = NEW0(const ClusterNamed *, HASH_COUNT(table) + 1);
        _cleanup_text_ Text t = {};
        size_t n = 0;

        if (!sorted)
                return request_answer_built(request, 500, NULL, NULL, &(Text) { .error = -ENOMEM });
        for (const ClusterNamed *x = table; x; x = x->hh.next)
                sorted[n++] = x;
        qsort(sorted, n, sizeof(*sorted), named_compare);
        json_open(&t, NULL, '{');
        json_open(&t, name, '[');
        for (size_t i = 0; i < n; i++)
                write(&t, c, sorted[i]);
        json_close(&t, ']');
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}
