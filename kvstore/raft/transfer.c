#include "kvstore/raft/transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/replica_internal.h"

enum {
        STEP_MS = 200,     /* between attempts when nothing moves by itself */
        MESSAGE_MS = 1000, /* between repetitions of the closing message */
        MESSAGE_MAX_MS = 30000,
        NO_ROOM_MS = 10000, /* after a refusal for want of room */
        REFUSED_MS = 1000,  /* after a refusal, before it begins anew */
};

typedef enum AckWhat {
        ACK_SO_FAR,
        ACK_WHOLE,
        ACK_REFUSED,
        /* An older version, which does not know these, waits for the silence: */
        ACK_ROTTEN,  /* all of it came, and is not what was written once */
        ACK_NO_ROOM, /* the disk has no room for it */
} AckWhat;

/* To one follower. */
typedef struct Sending {
        uint64_t to, index;    /* at least this index is asked for */
        uint64_t term;         /* of our leading */
        uint64_t number;       /* of this attempt; 0: waits for a checkpoint */
        Checkpoint checkpoint; /* its file, and what goes into the message */
        uint64_t sent, acked;
        bool whole;   /* the follower has all of it, and looked at it */
        bool again;   /* to one whose tree differs: it takes it by itself, whatever its log holds */
        bool no_room; /* it has none, and that was said */
        uint64_t contact_ms, message_ms, whole_ms, rewound_ms, retry_ms;
} Sending;

/* From a leader. */
typedef struct Receiving {
        uint64_t from, number;
        uint64_t session; /* the number of the one by which the last chunk came */
        uint64_t size, offset;
        uint64_t room; /* on the disk when it began, in bytes */
        int fd;
        bool finishing, ready;
        Checkpoint checkpoint;
} Receiving;

struct Transfers {
        Replica *replica;
        Sending *sendings[TRANSFERS_MAX];
        Timer timer;
        Receiving receiving;
        Work work;
        char refused[256]; /* why the last tree that came could not be stored; "": it could */
        int refused_error; /* the same as an error, which stays when the figures in the text change */
        uint64_t unfit_size, unfit_room; /* of the last one for whose second copy there was no room, and the
                                            room there was when it began; 0: none */
        int work_error;
        Error work_text;
        Checkpoint work_result;
};

/* -- Sending -- */

static void sending_free(Sending *s) {
        checkpoint_done(&s->checkpoint);
        free(s);
}

/* Begins anew, with the newest checkpoint if it is new enough, else when there is one. */
static void sending_begin(Transfers *t, Sending *s) {
        Replica *p = t->replica;
        const Checkpoint *c = &replica_data_dir(p)->checkpoint;
        Checkpoint mine = { .fd = -1 };

        checkpoint_done(&s->checkpoint);
        s->number = 0;
        s->sent = s->acked = 0;
        s->whole = false;
        s->contact_ms = loop_now_ms(replica_loop(p));

        if (!consistency_may_send(replica_consistency(p)))
                return; /* until the others have said whose tree is right */
        if (c->fd < 0 || c->meta.applied < s->index) {
                replica_checkpoint(p);
                return;
        }

        mine = *c;
        mine.configuration = malloc(c->configuration_size);
        mine.fd = dup(c->fd);
        if (!mine.configuration || mine.fd < 0) {
                checkpoint_done(&mine);
                return; /* again with the next step */
        }
        memcpy(mine.configuration, c->configuration, c->configuration_size);
        s->checkpoint = mine;
        s->number = random_u64(loop_random(replica_loop(p))) | 1;
        log_write(s->no_room ? LOG_DEBUG : LOG_INFO, NO_FIELDS,
                  "sending the tree of entry %" PRIu64 " (%" PRIu64 " bytes) to replica %" PRIu64,
                  mine.meta.applied, mine.size, s->to);
}

static int send_chunk(Transfers *t, Sending *s) {
        _cleanup_writer_ Writer w = {};
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size = (size_t) MIN((uint64_t) TRANSFER_CHUNK, s->checkpoint.size - s->sent);
        int r;

        bytes = malloc(size);
        if (!bytes)
                return -ENOMEM;
        r = pread_all(s->checkpoint.fd, bytes, size, s->sent);
        if (r < 0)
                return r;

        replica_write_head(t->replica, &w, s->to);
        write_u64(&w, s->term);
        write_u64(&w, s->number);
        write_u64(&w, s->checkpoint.size);
        write_u64(&w, s->sent);
        write_u32(&w, crc32c(0, bytes, size));
        write_raw(&w, bytes, size);
        r = replica_send(t->replica, s->to, PEER_SNAPSHOT, &w);
        if (r < 0)
                return r;

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
        RaftStateInfo info = checkpoint_info(&s->checkpoint);

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

/* False: it is over. */
static bool sending_step(Transfers *t, Sending *s) {
        Replica *p = t->replica;
        uint64_t now = loop_now_ms(replica_loop(p)), match;

        if (!replica_is_leader(p) || replica_term(p) != s->term)
                return false;
        if (consistency_differs(replica_consistency(p)) ||
            raft_core_match_index(replica_core(p), s->to, &match) < 0)
                return false; /* or not a member any more */
        if (s->again ? s->whole : match >= (s->number ? s->checkpoint.meta.applied : s->index))
                return false;

        if (s->number == 0 && now >= s->retry_ms)
                sending_begin(t, s);
        else if (s->number != 0 && s->whole && now >= s->whole_ms + MESSAGE_MAX_MS)
                sending_begin(t, s);
        else if (s->number != 0 && !s->whole && now >= s->contact_ms + TRANSFER_SILENCE_MS)
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

        for (size_t i = 0; i < TRANSFERS_MAX; i++) {
                if (!t->sendings[i])
                        continue;
                if (sending_step(t, t->sendings[i]))
                        any = true;
                else {
                        sending_free(t->sendings[i]);
                        t->sendings[i] = NULL;
                }
        }

        if (!any)
                timer_stop(&t->timer);
        else if (!timer_armed(&t->timer))
                (void) timer_start(&t->timer, replica_loop(t->replica), STEP_MS);
}

static void on_timer(void *userdata) {
        transfers_step(userdata);
}

static void begin_sending(Transfers *t, uint64_t to, uint64_t index, bool again) {
        Sending **free_slot = NULL;
        Sending *s;

        for (size_t i = 0; i < TRANSFERS_MAX; i++) {
                if (!t->sendings[i])
                        free_slot = &t->sendings[i];
                else if (t->sendings[i]->to == to && t->sendings[i]->term == replica_term(t->replica))
                        return;
        }
        if (!free_slot || !(s = NEW0(Sending, 1)))
                return; /* Raft asks again */

        *s = (Sending) { .to = to,
                         .index = index,
                         .again = again,
                         .term = replica_term(t->replica),
                         .checkpoint = { .fd = -1 } };
        *free_slot = s;
        /* We are inside an input of the core: begin from the loop. */
        (void) timer_start(&t->timer, replica_loop(t->replica), 0);
}

void transfers_send(Transfers *t, uint64_t to, uint64_t index) {
        begin_sending(t, to, index, false);
}

void transfers_send_again(Transfers *t, uint64_t to, uint64_t index) {
        begin_sending(t, to, index, true);
}

static void found_rotten(Transfers *t, const Sending *s) {
        DataDir *folder = replica_data_dir(t->replica);

        if (folder->checkpoint.fd < 0 || folder->checkpoint.meta.applied != s->checkpoint.meta.applied)
                return; /* there is another one already */
        log_error(NO_FIELDS,
                  "this host's checkpoint of entry %" PRIu64 " is damaged, as replica %" PRIu64
                  " has found: a new one is made",
                  s->checkpoint.meta.applied, s->to);
        data_dir_forget_checkpoint(folder);
}

void transfers_on_ack(Transfers *t, const void *payload, size_t size) {
        Reader r = reader_over(payload, size);
        uint64_t number = read_u64(&r), offset = read_u64(&r), now = loop_now_ms(replica_loop(t->replica));
        uint8_t what = read_u8(&r);

        if (reader_end(&r) < 0 || number == 0)
                return;

        for (size_t i = 0; i < TRANSFERS_MAX; i++) {
                Sending *s = t->sendings[i];

                if (!s || s->number != number || offset > s->checkpoint.size)
                        continue;

                s->contact_ms = now;
                if (what == ACK_ROTTEN)
                        found_rotten(t, s);
                if (what == ACK_NO_ROOM && !s->no_room) {
                        log_warning(NO_FIELDS,
                                    "replica %" PRIu64 " has no room on its disk for the tree (%" PRIu64
                                    " bytes): it is sent again every %d s",
                                    s->to, s->checkpoint.size, NO_ROOM_MS / 1000);
                        s->no_room = true;
                }
                if (what == ACK_REFUSED || what == ACK_ROTTEN || what == ACK_NO_ROOM) {
                        s->number = 0; /* the timer begins anew */
                        s->retry_ms = now + (what == ACK_NO_ROOM ? NO_ROOM_MS : REFUSED_MS);
                } else if (what == ACK_WHOLE && !s->whole) {
                        s->whole = true;
                        s->whole_ms = now;
                        s->no_room = false; /* it stored it */
                        if (!s->again)
                                send_closing_message(t, s, now);
                } else if (what == ACK_SO_FAR && !s->whole) {
                        if (offset > s->acked)
                                s->acked = offset;
                        else if (offset == s->acked && now >= s->rewound_ms + STEP_MS) {
                                s->sent = offset; /* it missed one: from there */
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

static void ack(Transfers *t, uint64_t session_number, uint64_t number, uint64_t offset, AckWhat what) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_u64(&w, offset);
        write_u8(&w, (uint8_t) what);
        replica_answer(t->replica, session_number, PEER_SNAPSHOT_ACK, &w);
}

/* Ends the transfer under way and says why, once as long as the reason stays: the leader tries again and
 * again. */
static void refuse(Transfers *t, uint64_t session_number, uint64_t number, uint64_t from, int error,
                   const char *why) {
        bool no_room = error == -ENOSPC || error == -EDQUOT;

        if (!t->refused[0] || t->refused_error != error)
                log_warning(((LogFields) { .error = error }),
                            "a tree that replica %" PRIu64 " sent cannot be used: %s", from, why);
        snprintf(t->refused, sizeof(t->refused), "%s", why);
        t->refused_error = error;
        ack(t, session_number, number, 0,
            error == -EUCLEAN ? ACK_ROTTEN :
            no_room           ? ACK_NO_ROOM :
                                ACK_REFUSED);
        receiving_end(t);
}

static void refuse_to_store(Transfers *t, uint64_t session_number, uint64_t number, uint64_t from,
                            int error) {
        char why[128];

        snprintf(why, sizeof(why), "cannot store it: %s", strerror(-error));
        refuse(t, session_number, number, from, error, why);
}

static void finish_run(void *userdata) {
        Transfers *t = userdata;

        t->work_error = data_dir_incoming_finish(replica_data_dir(t->replica), &t->work_result,
                                                 &t->work_text);
}

static void finish_done(void *userdata) {
        Transfers *t = userdata;
        Receiving *r = &t->receiving;

        r->finishing = false;
        if (replica_state(t->replica) == REPLICA_CLOSING) {
                checkpoint_done(&t->work_result);
                replica_work_ended(t->replica);
                return;
        }

        if (t->work_error < 0) {
                t->unfit_size = t->work_error == -ENOSPC ? r->size : 0;
                t->unfit_room = r->room;
                refuse(t, r->session, r->number, r->from, t->work_error,
                       error_text(&t->work_text, t->work_error));
                return;
        }
        t->refused[0] = 0;
        t->unfit_size = 0;

        close(TAKE_FD(r->fd)); /* else the blocks of this file stay in use when the next checkpoint takes its
                                  place */
        r->checkpoint = t->work_result;
        t->work_result = (Checkpoint) { .fd = -1 };
        r->ready = true;
        ack(t, r->session, r->number, r->offset, ACK_WHOLE);
        if (consistency_differs(replica_consistency(t->replica)))
                replica_replace_tree(t->replica);
}

static int finish(Transfers *t) {
        int r;

        t->work_text = (Error) {};
        t->work_result = (Checkpoint) { .fd = -1 };
        t->work = (Work) {
                .name = LOOP_NAME(finish_done), .work = finish_run, .done = finish_done, .userdata = t
        };
        r = loop_work(replica_loop(t->replica), &t->work);
        if (r >= 0)
                t->receiving.finishing = true;
        return r;
}

/* How large a tree is, is the cluster's quota's business, which this host may not know yet: the bound is the
 * room on its disk. Storing it takes a second copy, which on some file systems costs nothing: only what has
 * not fitted says so, and is not sent again before there is more room. */
static int begin(Transfers *t, uint64_t session_number, uint64_t from, uint64_t number, uint64_t size) {
        uint64_t room, total;
        bool unfit;
        char why[200];
        int fd, r;

        receiving_end(t);
        fd = data_dir_incoming_open(replica_data_dir(t->replica));
        r = fd < 0 ? fd : data_dir_room(replica_data_dir(t->replica), &room, &total);
        unfit = r >= 0 && t->unfit_size > 0 && size >= t->unfit_size && room <= t->unfit_room &&
                room / 2 < size + size / 16;
        if (r >= 0 && (size > room || unfit)) {
                snprintf(why, sizeof(why),
                         "it has %" PRIu64 " KiB, and %" PRIu64 " of %" PRIu64
                         " KiB are free on the disk of %.64s%s",
                         size / 1024, room / 1024, total / 1024, replica_data_dir(t->replica)->path,
                         unfit ? ", too few for the second copy of it" : "");
                refuse(t, session_number, number, from, -ENOSPC, why);
                r = -ENOSPC;
        } else if (r < 0)
                refuse_to_store(t, session_number, number, from, r);
        if (r < 0) {
                closep(&fd);
                return r;
        }

        t->receiving.fd = fd;
        t->receiving.from = from;
        t->receiving.number = number;
        t->receiving.size = size;
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
                        return true; /* incoming/ is in use; the sender begins anew after a silence */
                if (offset != 0) {
                        ack(t, by, number, 0, ACK_REFUSED); /* of one that we have forgotten */
                        return true;
                }
                if (total == 0 || begin(t, by, from, number, total) < 0)
                        return true;
        }
        r->session = by;
        if (r->ready || r->finishing) {
                if (r->ready)
                        ack(t, by, number, r->offset, ACK_WHOLE);
                return true;
        }

        if (offset == r->offset && total == r->size && rd.left <= r->size - r->offset &&
            crc32c(0, rd.bytes, rd.left) == crc) {
                int error = pwrite_all(r->fd, rd.bytes, rd.left, offset);

                if (error < 0) {
                        refuse_to_store(t, by, number, from, error);
                        return true;
                }
                r->offset += rd.left;
        }

        ack(t, by, number, r->offset, ACK_SO_FAR);
        if (r->offset == r->size && finish(t) < 0) {
                receiving_end(t);
                ack(t, by, number, 0, ACK_REFUSED);
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
                snprintf(ret, size, "the tree that the leader sends cannot be used: %s", t->refused);
                return;
        }
        for (size_t i = 0; i < TRANSFERS_MAX; i++)
                if (t->sendings[i] && t->sendings[i]->no_room) {
                        snprintf(ret, size,
                                 "replica %" PRIu64
                                 " has no room on its disk for the tree, and cannot follow without it",
                                 t->sendings[i]->to);
                        return;
                }
}

/* -- Lifetime -- */

void transfers_drop(Transfers *t) {
        for (size_t i = 0; i < TRANSFERS_MAX; i++)
                if (t->sendings[i]) {
                        sending_free(t->sendings[i]);
                        t->sendings[i] = NULL;
                }
        timer_stop(&t->timer);
        receiving_end(t);
        data_dir_incoming_discard(replica_data_dir(t->replica));
}

bool transfers_busy(const Transfers *t) {
        return t->receiving.finishing;
}

int transfers_new(Transfers **ret, Replica *p) {
        Transfers *t = NEW0(Transfers, 1);

        if (!t)
                return -ENOMEM;
        t->replica = p;
        t->timer = TIMER(on_timer, t);
        t->receiving = (Receiving) { .fd = -1, .checkpoint = { .fd = -1 } };
        t->work_result = (Checkpoint) { .fd = -1 };
        *ret = t;
        return 0;
}

Transfers *transfers_free(Transfers *t) {
        if (!t)
                return NULL;
        timer_stop(&t->timer);
        for (size_t i = 0; i < TRANSFERS_MAX; i++)
                if (t->sendings[i])
                        sending_free(t->sendings[i]);
        receiving_end(t);
        checkpoint_done(&t->work_result);
        free(t);
        return NULL;
}
