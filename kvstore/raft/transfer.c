#include "kvstore/raft/transfer.h"

#include "base/file.h"
#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/replica_internal.h"

enum {
        STEP_MS = 200,     /* between attempts without progress */
        MESSAGE_MS = 1000, /* between repetitions of the closing message */
        MESSAGE_MAX_MS = 30000,
        NO_ROOM_MS = 10000, /* after a rejection for lack of room */
        REFUSED_MS = 1000,  /* after a rejection, before the next start */
};

typedef enum AckWhat {
        ACK_SO_FAR,
        ACK_WHOLE,
        ACK_REFUSED,
        /* A sender of an older version ignores these, and starts again after the timeout: */
        ACK_CORRUPT, /* complete, but it fails its checksum */
        ACK_NO_ROOM, /* the disk has no room for it */
} AckWhat;

/* To one follower. */
typedef struct Sending {
        uint64_t to;           /* 0: none */
        uint64_t index;        /* the least index that is requested */
        uint64_t term;         /* in which this host leads */
        uint64_t number;       /* of this attempt; 0: it waits for a checkpoint */
        Checkpoint checkpoint; /* its file, and the content of the message */
        uint64_t sent, acked;
        bool whole;   /* the follower has received and verified it */
        bool again;   /* to a diverged follower, which installs the tree independently of its log */
        bool no_room; /* the follower has no space, and that was logged */
        uint64_t contact_ms, message_ms, whole_ms, rewound_ms, retry_ms;
} Sending;

/* From a leader. */
typedef struct Receiving {
        uint64_t from, number;
        uint64_t session; /* number of the session of the last chunk */
        uint64_t size, offset;
        uint64_t room; /* on the disk at the start, in bytes */
        int fd;
        bool finishing, ready;
        Checkpoint checkpoint;
} Receiving;

struct Transfers {
        Replica *replica;
        Sending sendings[TRANSFERS_MAX];
        Timer timer;
        Receiving receiving;
        Work work;
        char refused[256]; /* why the last received tree could not be stored; "": it could */
        int refused_error; /* the same as an error, which stays equal when figures in the text change */
        uint64_t unfit_size, unfit_room; /* of the last tree without space for its second copy, and the free
                                            space at its beginning; 0: none */
        int work_error;
        Error work_text;
        Checkpoint work_result;
};

/* -- Sending -- */

static void sending_end(Sending *s) {
        checkpoint_done(&s->checkpoint);
        *s = (Sending) { .checkpoint = { .fd = -1 } };
}

/* Start again with the newest checkpoint if it is new enough, else when there is such a checkpoint. */
static void sending_begin(Transfers *t, Sending *s) {
        Replica *p = t->replica;
        const Checkpoint *c = &p->data_dir.checkpoint;
        Checkpoint mine = { .fd = -1 };

        checkpoint_done(&s->checkpoint);
        s->number = 0;
        s->sent = s->acked = 0;
        s->whole = false;
        s->contact_ms = loop_now_ms(p->loop);

        if (!consistency_may_send(p->consistency))
                return; /* until the comparison of trees is decided */
        if (c->fd < 0 || c->meta.applied < s->index) {
                replica_checkpoint(p);
                return;
        }

        mine = *c;
        mine.configuration = malloc(c->configuration_size);
        mine.fd = dup(c->fd);
        if (!mine.configuration || mine.fd < 0) {
                checkpoint_done(&mine);
                return; /* the next step tries again */
        }
        memcpy(mine.configuration, c->configuration, c->configuration_size);
        s->checkpoint = mine;
        s->number = random_u64(loop_random(p->loop)) | 1;
        log_write(s->no_room ? LOG_DEBUG : LOG_INFO, NO_FIELDS,
                  "sending the tree of entry %" PRIu64 " (%" PRIu64 " bytes) to replica %" PRIu64,
                  mine.meta.applied, mine.size, s->to);
}

static int send_chunk(Transfers *t, Sending *s) {
        _cleanup_writer_ Writer w = {};
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size = (size_t) MIN((uint64_t) TRANSFER_CHUNK, s->checkpoint.size - s->sent);

        bytes = malloc(size);
        if (!bytes)
                return -ENOMEM;
        TRY(pread_all(s->checkpoint.fd, bytes, size, s->sent));

        replica_write_head(t->replica, &w, s->to);
        write_u64(&w, s->term);
        write_u64(&w, s->number);
        write_u64(&w, s->checkpoint.size);
        write_u64(&w, s->sent);
        write_u32(&w, crc32c(0, bytes, size));
        write_raw(&w, bytes, size);
        TRY(replica_send(t->replica, s->to, PEER_SNAPSHOT, &w));

        s->sent += size;
        return 0;
}

static void send_chunks(Transfers *t, Sending *s) {
        while (s->sent < s->checkpoint.size &&
               s->sent < s->acked + (uint64_t) TRANSFER_WINDOW * TRANSFER_CHUNK)
                if (send_chunk(t, s) < 0)
                        break; /* no session, or its queue is full: the timer tries again */
}

static void send_closing_message(Transfers *t, Sending *s, uint64_t now) {
        RaftStateInfo info = replica_checkpoint_info(&s->checkpoint);

        replica_send_message(
                t->replica, s->to,
                &(RaftMessage) { .type = RAFT_MESSAGE_SNAPSHOT,
                                 .term = s->term,
                                 .snapshot = { .index = info.index,
                                               .index_term = info.term,
                                               .configuration_index = info.configuration_index,
                                               .configuration = info.configuration,
                                               .configuration_size = info.configuration_size } });
        s->message_ms = now;
}

/* The follower, whose log is known to reach 'match', has what it needs. */
static bool sending_is_over(const Sending *s, uint64_t match) {
        if (s->again)
                return s->whole;
        return match >= (s->number ? s->checkpoint.meta.applied : s->index);
}

/* Return false when the transfer is over. */
static bool sending_step(Transfers *t, Sending *s) {
        Replica *p = t->replica;
        uint64_t now = loop_now_ms(p->loop), match, due_ms;

        if (!replica_is_leader(p) || replica_term(p) != s->term)
                return false;
        if (consistency_differs(p->consistency) || raft_core_match_index(p->core, s->to, &match) < 0)
                return false; /* or it is not a member any more */
        if (sending_is_over(s, match))
                return false;

        if (s->number == 0)
                due_ms = s->retry_ms;
        else
                due_ms = s->whole ? s->whole_ms + MESSAGE_MAX_MS : s->contact_ms + TRANSFER_SILENCE_MS;
        if (now >= due_ms)
                sending_begin(t, s);

        if (s->number == 0)
                return true;
        if (!s->whole)
                send_chunks(t, s);
        else if (now >= s->message_ms + MESSAGE_MS)
                send_closing_message(t, s, now);
        return true;
}

void transfers_step(Transfers *t) {
        bool any = false;

        for (Sending *s = t->sendings; s < t->sendings + TRANSFERS_MAX; s++)
                if (s->to != 0 && sending_step(t, s))
                        any = true;
                else
                        sending_end(s);

        if (!any)
                timer_stop(&t->timer);
        else if (!timer_armed(&t->timer))
                (void) timer_start(&t->timer, t->replica->loop, STEP_MS);
}

static void transfers_on_timer(void *userdata) {
        transfers_step(userdata);
}

void transfers_send(Transfers *t, uint64_t to, uint64_t index, bool again) {
        uint64_t term = replica_term(t->replica);
        Sending *unused = NULL;

        for (Sending *s = t->sendings; s < t->sendings + TRANSFERS_MAX; s++)
                if (s->to == 0)
                        unused = s;
                else if (s->to == to && s->term == term)
                        return;
        if (!unused)
                return; /* the core requests it again */

        *unused = (Sending) {
                .to = to, .index = index, .again = again, .term = term, .checkpoint = { .fd = -1 }
        };
        /* The caller is inside an input of the core: start from the loop. */
        (void) timer_start(&t->timer, t->replica->loop, 0);
}

static void transfers_on_corrupt(Transfers *t, const Sending *s) {
        DataDir *dir = &t->replica->data_dir;

        if (dir->checkpoint.fd < 0 || dir->checkpoint.meta.applied != s->checkpoint.meta.applied)
                return; /* there is another checkpoint already */
        log_error(NO_FIELDS,
                  "checkpoint of entry %" PRIu64 " is corrupt, reported by replica %" PRIu64
                  "; writing a new checkpoint",
                  s->checkpoint.meta.applied, s->to);
        data_dir_forget_checkpoint(dir);
}

void transfers_on_ack(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                      size_t size) {
        Replica *p = userdata;
        Transfers *t = p->transfers;
        Reader r = reader_over(payload, size);
        uint64_t number = read_u64(&r), offset = read_u64(&r), now = loop_now_ms(p->loop);
        uint8_t what = read_u8(&r);

        if (!replica_is_open(p) || reader_end(&r) < 0 || number == 0)
                return;

        for (Sending *s = t->sendings; s < t->sendings + TRANSFERS_MAX; s++) {
                if (s->number != number || offset > s->checkpoint.size)
                        continue;

                s->contact_ms = now;
                if (what == ACK_CORRUPT)
                        transfers_on_corrupt(t, s);
                if (what == ACK_NO_ROOM && !s->no_room) {
                        log_warning(NO_FIELDS,
                                    "replica %" PRIu64 " has no disk space for the tree (%" PRIu64
                                    " bytes); sending it again every %d s",
                                    s->to, s->checkpoint.size, NO_ROOM_MS / 1000);
                        s->no_room = true;
                }
                if (what == ACK_REFUSED || what == ACK_CORRUPT || what == ACK_NO_ROOM) {
                        s->number = 0; /* the timer starts again */
                        s->retry_ms = now + (what == ACK_NO_ROOM ? NO_ROOM_MS : REFUSED_MS);
                } else if (what == ACK_WHOLE && !s->whole) {
                        s->whole = true;
                        s->whole_ms = now;
                        s->no_room = false; /* the follower has stored the tree */
                        if (!s->again)
                                send_closing_message(t, s, now);
                } else if (what == ACK_SO_FAR && !s->whole) {
                        if (offset > s->acked)
                                s->acked = offset;
                        else if (offset == s->acked && now >= s->rewound_ms + STEP_MS) {
                                s->sent = offset; /* a chunk is missing: send again from there */
                                s->rewound_ms = now;
                        }
                        send_chunks(t, s);
                }
        }
}

/* -- Receiving -- */

static void receiving_end(Transfers *t) {
        Receiving *r = &t->receiving;

        if (r->fd >= 0)
                close(r->fd);
        checkpoint_done(&r->checkpoint);
        *r = (Receiving) { .fd = -1, .checkpoint = { .fd = -1 } };
}

static void transfers_ack(Transfers *t, uint64_t session_number, uint64_t number, uint64_t offset,
                          AckWhat what) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_u64(&w, offset);
        write_u8(&w, (uint8_t) what);
        replica_answer(t->replica, session_number, PEER_SNAPSHOT_ACK, &w);
}

/* End the transfer in flight, and log the reason once as long as it stays the same: the leader tries
 * repeatedly. */
static void transfers_reject(Transfers *t, int error, const char *why) {
        const Receiving *r = &t->receiving;
        AckWhat what = ACK_REFUSED;

        if (!t->refused[0] || t->refused_error != error)
                log_warning(((LogFields) { .error = error }),
                            "cannot use the tree that replica %" PRIu64 " sent: %s", r->from, why);
        snprintf(t->refused, sizeof(t->refused), "%s", why);
        t->refused_error = error;
        if (error == -EUCLEAN)
                what = ACK_CORRUPT;
        else if (error == -ENOSPC || error == -EDQUOT)
                what = ACK_NO_ROOM;
        transfers_ack(t, r->session, r->number, 0, what);
        receiving_end(t);
}

static void transfers_reject_storing(Transfers *t, int error) {
        char why[128];

        snprintf(why, sizeof(why), "cannot store it: %s", strerror(-error));
        transfers_reject(t, error, why);
}

static void transfers_finish_run(void *userdata) {
        Transfers *t = userdata;

        t->work_error = data_dir_incoming_finish(&t->replica->data_dir, &t->work_result, &t->work_text);
}

static void transfers_finish_done(void *userdata) {
        Transfers *t = userdata;
        Receiving *r = &t->receiving;

        r->finishing = false;
        if (t->replica->state == REPLICA_CLOSING) {
                checkpoint_done(&t->work_result);
                replica_work_ended(t->replica);
                return;
        }

        if (t->work_error < 0) {
                t->unfit_size = t->work_error == -ENOSPC ? r->size : 0;
                t->unfit_room = r->room;
                transfers_reject(t, t->work_error, error_text(&t->work_text, t->work_error));
                return;
        }
        t->refused[0] = 0;
        t->unfit_size = 0;

        close(TAKE_FD(r->fd)); /* else its blocks stay in use after the next checkpoint has replaced it */
        r->checkpoint = t->work_result;
        t->work_result = (Checkpoint) { .fd = -1 };
        r->ready = true;
        transfers_ack(t, r->session, r->number, r->offset, ACK_WHOLE);
        if (consistency_differs(t->replica->consistency))
                replica_replace_tree(t->replica);
}

static int transfers_finish(Transfers *t) {
        int r;

        t->work_text = (Error) {};
        t->work_result = (Checkpoint) { .fd = -1 };
        t->work = WORK(transfers_finish_run, transfers_finish_done, t);
        r = loop_work(t->replica->loop, &t->work);
        if (r >= 0)
                t->receiving.finishing = true;
        return r;
}

/* The cluster's quota bounds the size of a tree, but this host may not have it yet: so the free disk space is
 * the bound. Storing a tree takes a second copy, which needs no space on some file systems: only a tree that
 * did not fit is rejected in advance, until there is more space. */
static int transfers_begin_receiving(Transfers *t, uint64_t session, uint64_t from, uint64_t number,
                                     uint64_t size) {
        DataDir *dir = &t->replica->data_dir;
        uint64_t room, total;
        char why[200];
        bool unfit;
        int r;

        receiving_end(t);
        t->receiving.session = session;
        t->receiving.from = from;
        t->receiving.number = number;
        t->receiving.size = size;
        t->receiving.fd = data_dir_incoming_open(dir);
        r = t->receiving.fd < 0 ? t->receiving.fd : data_dir_space(dir, &room, &total);
        if (r < 0) {
                transfers_reject_storing(t, r);
                return r;
        }

        unfit = t->unfit_size > 0 && size >= t->unfit_size && room <= t->unfit_room &&
                room / 2 < size + size / 16;
        if (size > room || unfit) {
                snprintf(why, sizeof(why),
                         "it has %" PRIu64 " KiB, and %" PRIu64 " of %" PRIu64
                         " KiB are free on the disk of %.64s%s",
                         size / 1024, room / 1024, total / 1024, dir->path,
                         unfit ? ", too few for the second copy of it" : "");
                transfers_reject(t, -ENOSPC, why);
                return -ENOSPC;
        }
        t->receiving.room = room;
        return 0;
}

bool transfers_on_snapshot(Transfers *t, PeerSession *session, const void *payload, size_t size) {
        Reader rd = reader_over(payload, size);
        Receiving *r = &t->receiving;
        uint64_t from, term, number, total, offset, by = peer_number(session);
        uint32_t crc;

        if (!replica_read_head(t->replica, session, &rd, &from))
                return false;
        term = read_u64(&rd);
        number = read_u64(&rd);
        total = read_u64(&rd);
        offset = read_u64(&rd);
        crc = read_u32(&rd);
        if (rd.failed || number == 0 || rd.left == 0 || rd.left > TRANSFER_CHUNK ||
            term < replica_term(t->replica))
                return false;

        if (number != r->number) {
                if (r->finishing)
                        return true; /* incoming/ is in use; the sender starts again after its timeout */
                if (offset != 0) {
                        transfers_ack(t, by, number, 0, ACK_REFUSED); /* of a transfer that has ended here */
                        return true;
                }
                if (total == 0 || transfers_begin_receiving(t, by, from, number, total) < 0)
                        return true;
        }
        r->session = by;
        if (r->ready || r->finishing) {
                if (r->ready)
                        transfers_ack(t, by, number, r->offset, ACK_WHOLE);
                return true;
        }

        if (offset == r->offset && total == r->size && rd.left <= r->size - r->offset &&
            crc32c(0, rd.bytes, rd.left) == crc) {
                int error = pwrite_all(r->fd, rd.bytes, rd.left, offset);

                if (error < 0) {
                        transfers_reject_storing(t, error);
                        return true;
                }
                r->offset += rd.left;
        }

        transfers_ack(t, by, number, r->offset, ACK_SO_FAR);
        if (r->offset == r->size && transfers_finish(t) < 0) {
                receiving_end(t);
                transfers_ack(t, by, number, 0, ACK_REFUSED);
        }
        return true;
}

Checkpoint *transfers_whole(Transfers *t) {
        return t->receiving.ready && t->receiving.checkpoint.fd >= 0 ? &t->receiving.checkpoint : NULL;
}

Checkpoint *transfers_received(Transfers *t, const RaftMessage *message) {
        Receiving *r = &t->receiving;

        if (!r->ready || r->checkpoint.meta.applied != message->snapshot.index ||
            r->checkpoint.meta.applied_term != message->snapshot.index_term)
                return NULL;
        return &r->checkpoint;
}

bool transfers_refuses(const Transfers *t) {
        return t->refused[0];
}

void transfers_problem(const Transfers *t, char *ret, size_t size) {
        if (t->refused[0]) {
                snprintf(ret, size, "cannot use the tree that the leader sends: %s", t->refused);
                return;
        }
        for (const Sending *s = t->sendings; s < t->sendings + TRANSFERS_MAX; s++)
                if (s->no_room) {
                        snprintf(ret, size,
                                 "replica %" PRIu64
                                 " has no disk space for the tree, and cannot follow without it",
                                 s->to);
                        return;
                }
}

/* -- Lifetime -- */

static void transfers_end(Transfers *t) {
        for (size_t i = 0; i < TRANSFERS_MAX; i++)
                sending_end(&t->sendings[i]);
        timer_stop(&t->timer);
        receiving_end(t);
}

void transfers_drop(Transfers *t) {
        transfers_end(t);
        data_dir_incoming_discard(&t->replica->data_dir);
}

bool transfers_busy(const Transfers *t) {
        return t->receiving.finishing;
}

int transfers_new(Transfers **ret, Replica *p) {
        Transfers *t = NEW0(Transfers, 1);

        if (!t)
                return -ENOMEM;
        t->replica = p;
        t->timer = TIMER(transfers_on_timer, t);
        t->receiving.fd = t->receiving.checkpoint.fd = -1;
        for (size_t i = 0; i < TRANSFERS_MAX; i++)
                t->sendings[i].checkpoint.fd = -1;
        t->work_result = (Checkpoint) { .fd = -1 };
        *ret = t;
        return 0;
}

Transfers *transfers_free(Transfers *t) {
        if (!t)
                return NULL;
        transfers_end(t);
        checkpoint_done(&t->work_result);
        free(t);
        return NULL;
}
