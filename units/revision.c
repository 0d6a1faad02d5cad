#include "units/revision.h"

#include "units/json_record.h"

const char *const revision_how_names[_REVISION_HOW_MAX] = {
        [REVISION_SUBMITTED] = "submitted",
        [REVISION_DIRECTORY] = "directory",
        [REVISION_REVERTED] = "reverted",
};

void revisions_done(Revisions *revisions) {
        free(revisions->former);
        *revisions = (Revisions) {};
}

uint64_t revisions_wanted(const Revisions *revisions) {
        return MAX(revisions->wanted.number, (uint64_t) 1);
}

const Revision *revisions_find(const Revisions *revisions, uint64_t number, const char *hash) {
        for (size_t i = 0; i < revisions->n_former; i++)
                if (number > 0 ? revisions->former[i].number == number :
                                 streq(revisions->former[i].hash, hash))
                        return &revisions->former[i];
        return NULL;
}

uint64_t revision_parse_number(const char *text) {
        uint64_t number;

        return text[0] >= '1' && text[0] <= '9' && strlen(text) < REVISION_NUMBER_SIZE - 1 &&
                               parse_u64(text, &number) >= 0 && number <= INT64_MAX ?
                       number :
                       0;
}

const char *revision_print_number(uint64_t number, char ret[static REVISION_NUMBER_SIZE]) {
        snprintf(ret, REVISION_NUMBER_SIZE, "%" PRIu64, number);
        return ret;
}

static uint64_t revisions_highest(const Revisions *revisions) {
        uint64_t highest = revisions_wanted(revisions);

        for (size_t i = 0; i < revisions->n_former; i++)
                highest = MAX(highest, revisions->former[i].number);
        return highest;
}

static void revisions_drop_oldest(Revisions *revisions, size_t n) {
        revisions->n_former -= n;
        memmove(revisions->former, revisions->former + n, revisions->n_former * sizeof(Revision));
}

void revisions_drop_older_half(Revisions *revisions) {
        revisions_drop_oldest(revisions, (revisions->n_former + 1) / 2);
}

int revisions_next(const Revisions *all, const char *wanted_hash, const char *hash, size_t keep,
                   Revisions *ret) {
        const Revision *same = revisions_find(all, 0, hash);
        _cleanup_revisions_ Revisions next = { .wanted = all->wanted };

        next.wanted.number = revisions_wanted(all);
        next.former = NEW0(Revision, all->n_former + 1);
        if (!next.former)
                return -ENOMEM;
        for (size_t i = 0; i < all->n_former; i++)
                if (&all->former[i] != same)
                        next.former[next.n_former++] = all->former[i];
        if (!streq(wanted_hash, hash)) {
                snprintf(next.wanted.hash, UNIT_HASH_SIZE, "%s", wanted_hash);
                next.former[next.n_former++] = next.wanted;
                next.wanted = (Revision) { .number = same ? same->number : revisions_highest(all) + 1 };
        }
        if (next.n_former >= keep)
                revisions_drop_oldest(&next, next.n_former - (keep - 1));

        *ret = TAKE_STRUCT(next);
        return 0;
}

static const JsonWords how_words = { revision_how_names, _REVISION_HOW_MAX, -EBADMSG };

static const JsonField former_fields[] = {
        { "by", JSON_FIELD_CHARS_CUT, offsetof(Revision, by), .size = REVISION_BY_SIZE },
        { "hash", JSON_FIELD_CHARS, offsetof(Revision, hash), true, .size = UNIT_HASH_SIZE },
        { "how", JSON_FIELD_WORD, offsetof(Revision, how), .words = &how_words },
        { "rev", JSON_FIELD_U64, offsetof(Revision, number), true },
        { "since", JSON_FIELD_U64, offsetof(Revision, since_ms) },
};

static const JsonList former_list = { JSON_FIELDS(former_fields), sizeof(Revision), REVISIONS_KEPT_MAX,
                                      offsetof(Revisions, n_former), true };

#define WANTED(member) offsetof(Revisions, wanted.member)
#define REVS \
        { "revs", JSON_FIELD_LIST, offsetof(Revisions, former), .list = &former_list }

static const JsonField revisions_fields[] = {
        { "by", JSON_FIELD_CHARS_CUT, WANTED(by), .size = REVISION_BY_SIZE },
        { "canary", JSON_FIELD_CHARS_SKIPPED, WANTED(update.canary), .size = UPDATE_WORD_SIZE },
        { "how", JSON_FIELD_WORD, WANTED(how), .words = &how_words },
        { "onFailure", JSON_FIELD_CHARS_SKIPPED, WANTED(update.on_failure), .size = UPDATE_WORD_SIZE },
        { "rev", JSON_FIELD_U64, WANTED(number) },
        REVS,
        { "since", JSON_FIELD_U64, WANTED(since_ms) },
};

/* The others are among the members of a unit. */
static const JsonField last_fields[] = {
        { "rev", JSON_FIELD_U64, WANTED(number) },
        REVS,
        { "since", JSON_FIELD_U64, WANTED(since_ms) },
};

void revisions_write(Text *t, const Revisions *revisions) {
        json_write_fields(t, JSON_FIELDS(last_fields), revisions);
}

int revisions_read(const JsonValue *object, Revisions *ret, Error *err) {
        *ret = (Revisions) {};
        return json_read_fields(object, JSON_FIELDS(revisions_fields), ret, err);
}
