#include "kvstore/read_bound.h"

#include "base/file.h"
#include "base/log.h"

#define NAME "floor"

enum { RECORD_MAX = 256 };

static int record(ReadBound *f, uint64_t bound) {
        char text[RECORD_MAX];
        int r;

        snprintf(text, sizeof(text), "1\nlineage %016" PRIx64 "\nindex %" PRIu64 "\n", f->lineage, bound);
        r = write_file_at(f->dir_fd, NAME, text, strlen(text), 0600);
        if (r >= 0)
                f->bound = bound;
        return r;
}

static int read_record(ReadBound *f) {
        _cleanup_free_ char *text = NULL;
        int end = 0;

        TRY(read_file_at(f->dir_fd, NAME, RECORD_MAX, &text, NULL));
        if (sscanf(text, "1\nlineage %16" SCNx64 "\nindex %20" SCNu64 "%n", &f->lineage, &f->bound, &end) !=
                    2 ||
            !streq(text + end, "\n"))
                return -EBADMSG;
        return 0;
}

int read_bound_open(ReadBound *f, const char *dir, Error *err) {
        int r;

        *f = (ReadBound) { .dir_fd = -1, .met = true };
        if (!dir)
                return 0;
        f->path = strdup(dir);
        if (!f->path)
                return -ENOMEM;
        f->dir_fd = open_dir(dir, 0700);
        if (f->dir_fd < 0)
                return error_set(err, f->dir_fd, "Failed to open %s: %s", dir, strerror(-f->dir_fd));

        r = read_record(f);
        if (r < 0 && r != -ENOENT) {
                f->unknown = true;
                log_warning(((LogFields) { .error = r }),
                            "Failed to read %s/" NAME ": %s; reads wait until a majority has confirmed that "
                            "this host's tree is current",
                            dir, strerror(-r));
        }
        return 0;
}

void read_bound_done(ReadBound *f) {
        closep(&f->dir_fd);
        free(f->path);
        *f = (ReadBound) { .dir_fd = -1 };
}

static int meet(ReadBound *f, uint64_t index) {
        if (!f->met)
                log_info(((LogFields) { .index = index }),
                         "caught up with previously served state; serving reads");
        f->met = true;
        f->unknown = false;
        return index + READ_BOUND_STEP / 2 <= f->bound ? 0 : record(f, index + READ_BOUND_STEP);
}

int read_bound_begin(ReadBound *f, uint64_t lineage, uint64_t index, bool shown) {
        if (f->dir_fd < 0)
                return 0;

        if (lineage != 0 && f->lineage != lineage) {
                /* The first lineage, or one of a recovery or restore: indexes of different lineages are not
                 * comparable. */
                f->lineage = lineage;
                f->bound = 0;
                f->unknown = true;
        }
        f->unknown |= f->lineage == 0;
        f->met = false;
        if (shown || (!f->unknown && lineage != 0 && index >= f->bound))
                return meet(f, index);
        log_info(((LogFields) { .index = index }), "reads wait until %s",
                 f->unknown ? "a majority has confirmed that this host's tree is current" :
                              "the tree has reached previously served state");
        return 0;
}

int read_bound_confirm(ReadBound *f, uint64_t index) {
        return f->dir_fd < 0 || f->met ? 0 : meet(f, index);
}

int read_bound_reach(ReadBound *f, uint64_t index) {
        if (f->dir_fd < 0 || (f->met && index <= f->bound) || (!f->met && (f->unknown || index < f->bound)))
                return 0;
        return meet(f, index);
}

int read_bound_promise(ReadBound *f, uint64_t index) {
        return f->dir_fd < 0 || f->unknown || index <= f->bound ? 0 : record(f, index + READ_BOUND_STEP);
}

int read_bound_end(ReadBound *f, uint64_t index) {
        return f->dir_fd < 0 || !f->met || f->lineage == 0 || index == f->bound ? 0 : record(f, index);
}
