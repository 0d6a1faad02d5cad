/* A body: u8 kind, u8 size of the machine ID (0 or 16), the ID, u8 size, unit, u8 size, user; the rest is the
 * reason. With CODED in the second byte, u8 size, name of the code, u8 size, its first argument precede the
 * reason. */
#include "fleetd/registry/history.h"

#include "base/log.h"
#include "peers/peers.h"
#include "units/verdict_former.h"

enum { ID_BYTES = (MACHINE_ID_SIZE - 1) / 2, CODED = 0x80 };

const char *const history_kind_names[_HISTORY_KIND_MAX] = {
        [HISTORY_SUBMITTED] = "submitted", [HISTORY_UPDATED] = "updated",
        [HISTORY_DESTROYED] = "destroyed", [HISTORY_TARGET] = "target",
        [HISTORY_ASSIGNED] = "assigned",   [HISTORY_STOP] = "stop",
        [HISTORY_STATE] = "state",         [HISTORY_PRESENCE] = "presence",
        [HISTORY_JOINED] = "joined",       [HISTORY_STARTED] = "started",
        [HISTORY_VERSION] = "version",     [HISTORY_PROBLEM] = "problem",
        [HISTORY_RESOLVED] = "resolved",   [HISTORY_METADATA] = "metadata",
        [HISTORY_LEVEL] = "level",         [HISTORY_ADOPTION] = "adoption",
        [HISTORY_REMOVED] = "removed",     [HISTORY_SETTINGS] = "settings",
        [HISTORY_REPLACED] = "replaced",   [HISTORY_CERTIFICATE] = "certificate",
        [HISTORY_TOKEN] = "token",         [HISTORY_CA] = "ca",
        [HISTORY_ROLE] = "role",           [HISTORY_REJECTED] = "rejected",
        [HISTORY_LEAVE] = "leave",         [HISTORY_USER] = "user",
        [HISTORY_DENIED] = "denied",       [HISTORY_WAITING] = "waiting",
        [HISTORY_LEADER] = "leader",       [HISTORY_MAINTENANCE] = "maintenance",
        [HISTORY_ROLLOUT] = "rollout",     [HISTORY_MOVE] = "move",
        [HISTORY_SECRET] = "secret",       [HISTORY_CONTENT] = "content",
};

static const char *const message_ids[_HISTORY_KIND_MAX] = {
        [HISTORY_PRESENCE] = "2d498dcdd7164321a30cb071d98fead6",
        [HISTORY_JOINED] = "4aab2de6806146669856f26bb70e0d1d",
        [HISTORY_LEVEL] = "3bd3e00be79e497d97047f4e5db004c5",
        [HISTORY_ADOPTION] = "89fcc702eb6c416691aaf0953d4c97c5",
        [HISTORY_REMOVED] = "0b967e12aeee42f698feca6bb5c9eed6",
        [HISTORY_SETTINGS] = "e50168b8fe6c41dfbb4997e64dbcde5d",
        [HISTORY_REPLACED] = "7cf2f2baa3614f83ae966b7f508ebf69",
        [HISTORY_CERTIFICATE] = "175416f2b8414759b949be08c31583d1",
        [HISTORY_TOKEN] = "83b1183cf8cb436fac6eb12c912dd17c",
        [HISTORY_CA] = "415e1410aa2a40488f8e2a1e921809f6",
        [HISTORY_ROLE] = "8a42f448a2d24288911659682633f029",
        [HISTORY_REJECTED] = PEERS_MESSAGE_REJECTED,
        [HISTORY_LEAVE] = "71d1b0fa3ebf4d0291f2ee74c03eef61",
        [HISTORY_USER] = "d9b441b6c82b4cd3b44f1574055196b8",
        [HISTORY_DENIED] = "ab85bb06b9a34f31a1be7d8a00826d08",
        [HISTORY_WAITING] = "0600c773db9b412fb42cfeb98fb9cb14",
        [HISTORY_LEADER] = "156ebfe38293438d9aa6c1c0b61dcda3",
        [HISTORY_MAINTENANCE] = "5f0f2cf8d1a34e6f9b7c1d0a7e64c2b9",
        [HISTORY_ROLLOUT] = "b3a1f7c2e90d4b6c8f52a4d7c61e0f93",
        [HISTORY_MOVE] = "c1e6a04f7d3b4f1e9a57b2c80d64e5aa",
};

const char *history_message_id(unsigned kind) {
        return kind < _HISTORY_KIND_MAX ? message_ids[kind] : NULL;
}

/* -- Bodies -- */

static uint8_t *history_put(uint8_t *at, const char *s, size_t size) {
        *at++ = (uint8_t) size;
        memcpy(at, s, size);
        return at + size;
}

size_t history_encode(const HistoryNote *note, bool coded, uint8_t ret[static KV_NOTE_MAX]) {
        const char *unit = note->unit ?: "", *user = note->user ?: "", *reason = note->reason ?: "";
        char line[HISTORY_REASON_SIZE];
        const char *machine = note->machine ?: "";
        const char *about = "", *code = verdict_rows[note->code].name ?: "";
        _cleanup_text_ Text message = {};
        size_t size, n_about = 0, left = strlen(user);
        uint8_t *at = ret;

        if (note->verdict) {
                verdict_append(&message, note->verdict);
                reason = text_chars(&message);
                code = verdict_name(note->verdict);
                if (!note->verdict->said)
                        about = verdict_argument(note->verdict, 0, &n_about);
        }
        size = strcspn(reason, "\n");

        *at++ = (uint8_t) note->kind;
        *at++ = (uint8_t) ((*machine ? ID_BYTES : 0) | (coded ? CODED : 0));
        for (const char *digit = machine; *digit && digit < machine + 2 * (size_t) ID_BYTES; digit += 2)
                *at++ = (uint8_t) (hex_digit(digit[0]) << 4 | hex_digit(digit[1]));
        at = history_put(at, unit, MIN(strlen(unit), (size_t) UNIT_NAME_MAX));
        at = history_put(at, user, left < HISTORY_USER_SIZE ? left : text_fit(user, HISTORY_USER_SIZE - 1));
        if (coded) {
                at = history_put(at, code, strlen(code));
                at = history_put(at, about, MIN(n_about, (size_t) HISTORY_ABOUT_SIZE - 1));
        }
        left = MIN(KV_NOTE_MAX - (size_t) (at - ret), (size_t) HISTORY_REASON_SIZE - 1);
        text_format(line, left + 1, "%.*s", (int) size, reason);
        memcpy(at, line, strlen(line));
        return (size_t) (at - ret) + strlen(line);
}

/* Read 'size' bytes as text, which has no NUL. */
static void history_read(Reader *r, size_t size, char *ret, size_t ret_size) {
        const char *s = read_raw(r, size);

        if (!s)
                return;
        if (size >= ret_size || memchr(s, 0, size)) {
                r->failed = true;
                return;
        }
        memcpy(ret, s, size);
        ret[size] = 0;
}

int history_decode(KvBytes body, HistoryEvent *ret) {
        Reader r = reader_over(body.data, body.size);
        char code[HISTORY_ABOUT_SIZE] = "", about[HISTORY_ABOUT_SIZE] = "";
        const uint8_t *id;
        bool coded;
        size_t n;

        ret->kind = read_u8(&r);
        ret->unit[0] = ret->machine[0] = ret->user[0] = ret->reason[0] = 0;
        n = read_u8(&r);
        coded = n & CODED;
        n &= (size_t) ~CODED;
        id = n == ID_BYTES ? read_raw(&r, n) : NULL;
        if (n != 0 && !id)
                return -EBADMSG;
        hex_print(id, n, ret->machine);
        history_read(&r, read_u8(&r), ret->unit, sizeof(ret->unit));
        history_read(&r, read_u8(&r), ret->user, sizeof(ret->user));
        if (coded) {
                history_read(&r, read_u8(&r), code, sizeof(code));
                history_read(&r, read_u8(&r), about, sizeof(about));
        }
        history_read(&r, r.left, ret->reason, sizeof(ret->reason));
        if (r.failed)
                return -EBADMSG;
        verdict_say(&ret->verdict, VERDICT_SAID, ret->reason);
        if (*code)
                verdict_set_named(&ret->verdict, code, about, strlen(about));
        else if (!coded)
                verdict_read_former_row(history_kind_to_string(ret->kind) ?: "", ret->unit, ret->reason,
                                        &ret->verdict);
        return 0;
}

void history_log(const HistoryEvent *event, const char *name, uint64_t index) {
        const char *object = event->unit[0] ? event->unit : name;
        bool named = *object && !same_string(object, event->reason); /* the reason of a removal is the name */

        log_notice(((LogFields) { .unit = event->unit[0] ? event->unit : NULL,
                                  .machine = event->machine[0] ? event->machine : NULL,
                                  .principal = event->user,
                                  .index = index,
                                  .message_id = history_message_id(event->kind) }),
                   "%s: %s%s%s%s%s", history_kind_to_string(event->kind), named ? object : "",
                   named && event->reason[0] ? ": " : "", event->reason, event->user[0] ? ", by " : "",
                   event->user);
}
