#include "units/stored_reboot.h"

const char *const reboot_kind_names[_REBOOT_KIND_MAX] = {
        [REBOOT_FULL] = "reboot",
        [REBOOT_SOFT] = "soft",
        [REBOOT_KEXEC] = "kexec",
};

const char *const reboot_state_names[_REBOOT_STATE_MAX] = {
        [REBOOT_QUEUED] = "queued",     [REBOOT_DRAINING] = "draining", [REBOOT_REBOOTING] = "rebooting",
        [REBOOT_REJECTED] = "rejected", [REBOOT_DOWN] = "down",         [REBOOT_BACK] = "back",
        [REBOOT_FAILED] = "failed",
};

static const JsonWords kind_words = { reboot_kind_names, _REBOOT_KIND_MAX, -EBADMSG };
static const JsonWords reboot_state_words = { reboot_state_names, _REBOOT_STATE_MAX, -EBADMSG };

static const JsonField reboot_fields[] = {
        { "boot", JSON_FIELD_CHARS, offsetof(RebootRecord, boot), .size = BOOT_ID_SIZE },
        { "by", JSON_FIELD_CHARS_CUT, offsetof(RebootRecord, by), .size = RECORDED_BY_SIZE },
        { "deadline", JSON_FIELD_U64, offsetof(RebootRecord, deadline_ms) },
        { "except", JSON_FIELD_CHARS, offsetof(RebootRecord, except), .size = REBOOT_EXCEPT_SIZE },
        { "kind", JSON_FIELD_WORD, offsetof(RebootRecord, kind), true, .words = &kind_words },
        { "lineage", JSON_FIELD_CHARS, offsetof(RebootRecord, lineage), .size = HEX64_SIZE },
        { "return", JSON_FIELD_U64, offsetof(RebootRecord, return_ms) },
        { "seq", JSON_FIELD_U64, offsetof(RebootRecord, seq) },
        { "since", JSON_FIELD_U64, offsetof(RebootRecord, since_ms) },
        { "slots", JSON_FIELD_U64, offsetof(RebootRecord, slots) },
        { "soft", JSON_FIELD_U64, offsetof(RebootRecord, soft) },
        { "state", JSON_FIELD_WORD, offsetof(RebootRecord, state), true, .words = &reboot_state_words },
        { "steady", JSON_FIELD_U64, offsetof(RebootRecord, steady_ms) },
        { "until", JSON_FIELD_U64, offsetof(RebootRecord, until_ms) },
        { "verdict", JSON_FIELD_OTHER, offsetof(RebootRecord, why), .size = sizeof(Verdict),
          .write = verdict_write, .read = verdict_read },
        { "why", JSON_FIELD_OTHER, offsetof(RebootRecord, why), .size = sizeof(Verdict),
          .write = verdict_add_said, .read = verdict_read_said },
        { "zone", JSON_FIELD_CHARS, offsetof(RebootRecord, zone), .size = SPREAD_KEY_MAX + 1 },
};

const JsonRecord reboot_record = { JSON_FIELDS(reboot_fields), sizeof(RebootRecord) };
