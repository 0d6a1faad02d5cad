#include "units/stored_cluster.h"

#include "units/machine.h"
#include "units/placement.h"

static_assert((int) SPREAD_KEY_MAX == (int) METADATA_KEY_MAX, "the spread key is a key of machine metadata");

const char *const granted_right_names[_GRANT_MAX] = {
        [GRANT_KEYS_READ] = "keys-read",   [GRANT_KEYS_WRITE] = "keys-write",
        [GRANT_UNITS_SEE] = "units-see",   [GRANT_UNITS_CHANGE] = "units-change",
        [GRANT_ADMINISTER] = "administer",
};

const char *const ca_root_state_names[_CA_ROOT_MAX] = {
        [CA_ROOT_CURRENT] = "current",
        [CA_ROOT_NEXT] = "next",
        [CA_ROOT_FORMER] = "former",
};

const char *const ca_rotation_state_names[_CA_ROTATION_MAX] = {
        [CA_ROTATION_BEGIN] = "begin",
        [CA_ROTATION_REKEY] = "rekey",
        [CA_ROTATION_DISTRIBUTE] = "distribute",
        [CA_ROTATION_ISSUE] = "issue",
};

const char *const peer_auth_names[_PEER_AUTH_MAX] = {
        [PEER_AUTH_ANY] = "any",
        [PEER_AUTH_CERTIFICATE] = "certificate",
};

const char *const lineage_kind_names[_LINEAGE_KIND_MAX] = {
        [LINEAGE_RECOVERED] = "recovered",
        [LINEAGE_RESTORED] = "restored",
};

const char *const maintenance_mode_names[_MAINTENANCE_MODE_MAX] = {
        [MAINTENANCE_CORDONED] = "cordoned",
        [MAINTENANCE_DRAINING] = "draining",
        [MAINTENANCE_DRAINED] = "drained",
};

static const JsonWords root_words = { ca_root_state_names, _CA_ROOT_MAX, -EBADMSG };
static const JsonWords rotation_words = { ca_rotation_state_names, _CA_ROTATION_MAX, -EBADMSG };
static const JsonWords auth_words = { peer_auth_names, _PEER_AUTH_MAX, -EBADMSG };
static const JsonWords lineage_words = { lineage_kind_names, _LINEAGE_KIND_MAX, -EBADMSG };
static const JsonWords protocol_words = { port_protocol_names, _PORT_PROTOCOL_MAX, -EBADMSG };
static const JsonWords mode_words = { maintenance_mode_names, _MAINTENANCE_MODE_MAX, -EBADMSG };
static const JsonWords right_words = { granted_right_names, _GRANT_MAX, -EBADMSG };

bool digest_is_valid(const char *s) {
        return parse_hex_id(s, DIGEST_SIZE - 1) >= 0;
}

bool token_id_is_valid(const char *s) {
        return parse_hex_id(s, HOST_TOKEN_SIZE - 1) >= 0;
}

bool principal_name_is_valid(const char *s) {
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789._-");

        return n > 0 && n <= PRINCIPAL_NAME_MAX && s[n] == 0 && !strchr("._-", s[0]);
}

/* -- Pins -- */

bool pins_have(const Pins *pins, const char *pin) {
        for (size_t i = 0; i < pins->n; i++)
                if (streq(pins->items[i], pin))
                        return true;
        return false;
}

static const JsonList host_pins = { NULL,
                                    0,
                                    DIGEST_SIZE,
                                    PINS_MAX,
                                    offsetof(HostRecord, pins.n),
                                    .is_valid = digest_is_valid },
                      principal_pins = { NULL,
                                         0,
                                         DIGEST_SIZE,
                                         PINS_MAX,
                                         offsetof(PrincipalRecord, pins.n),
                                         .is_valid = digest_is_valid };

/* -- Endpoints -- */

static bool service_name_is_valid(const char *s) {
        return service_label_is_valid(s, SERVICE_NAME_MAX);
}

const JsonList endpoint_services = { NULL,
                                     0,
                                     SERVICE_NAME_MAX + 1,
                                     SERVICES_MAX,
                                     offsetof(EndpointRecord, n_services),
                                     .is_valid = service_name_is_valid };

static const JsonField port_fields[] = {
        { "name", JSON_FIELD_CHARS, offsetof(ServicePort, name), true, .size = PORT_NAME_MAX + 1 },
        { "port", JSON_FIELD_U64, offsetof(ServicePort, number), true },
        { "protocol", JSON_FIELD_WORD, offsetof(ServicePort, protocol), true, .words = &protocol_words },
};

static const JsonList ports_list = { JSON_FIELDS(port_fields), sizeof(ServicePort), PORTS_MAX,
                                     offsetof(EndpointRecord, n_ports), true };

static const JsonField endpoint_fields[] = {
        { "address", JSON_FIELD_CHARS, offsetof(EndpointRecord, address), true,
          .size = ENDPOINT_ADDRESS_SIZE },
        { "name", JSON_FIELD_OWNED, offsetof(EndpointRecord, name) },
        { "ports", JSON_FIELD_LIST, offsetof(EndpointRecord, ports), .list = &ports_list },
        { "services", JSON_FIELD_LIST, offsetof(EndpointRecord, services), .list = &endpoint_services },
        { "zone", JSON_FIELD_OWNED_OR_NULL, offsetof(EndpointRecord, zone) },
};

static int endpoint_check(void *record, Error *err) {
        EndpointRecord *endpoint = record;

        if (!endpoint_address_is_valid(endpoint->address) ||
            !ip_address_canonical(endpoint->address, endpoint->address))
                return error_set(err, -EBADMSG, "address: expected a numeric address of a host");
        if (endpoint->n_services == 0)
                return error_set(err, -EBADMSG, "services: expected 1 to %d names", SERVICES_MAX);
        for (size_t i = 0; i < endpoint->n_ports; i++)
                if (endpoint->ports[i].number > UINT16_MAX ||
                    !service_label_is_valid(endpoint->ports[i].name, PORT_NAME_MAX))
                        return error_set(err, -EBADMSG, "ports: expected names and numbers of ports");
        return 0;
}

const JsonRecord endpoint_record = { JSON_FIELDS(endpoint_fields), sizeof(EndpointRecord), endpoint_check };

/* -- Hosts -- */

static const JsonField host_fields[] = {
        { "expires", JSON_FIELD_U64, offsetof(HostRecord, expires_ms) },
        { "joined", JSON_FIELD_U64, offsetof(HostRecord, joined_ms) },
        { "pins", JSON_FIELD_LIST, offsetof(HostRecord, pins.items), .list = &host_pins },
        { "restricted", JSON_FIELD_BOOL, offsetof(HostRecord, restricted) },
        { "serial", JSON_FIELD_CHARS, offsetof(HostRecord, serial), .size = SERIAL_SIZE },
        { "start", JSON_FIELD_U64, offsetof(HostRecord, start_number) },
        { "token", JSON_FIELD_CHARS, offsetof(HostRecord, token), .size = HOST_TOKEN_SIZE },
        { "write", JSON_FIELD_CHARS, offsetof(HostRecord, write), .size = PREFIXES_SIZE },
};

static int host_check(void *record, Error *err) {
        const HostRecord *host = record;

        return host->pins.n == 0 ? error_set(err, -EBADMSG, "pins: missing") : 0;
}

const JsonRecord host_record = { JSON_FIELDS(host_fields), sizeof(HostRecord), host_check };

static const JsonField removed_fields[] = {
        { "by", JSON_FIELD_CHARS_CUT, offsetof(RemovedRecord, by), .size = RECORDED_BY_SIZE },
        { "index", JSON_FIELD_U64, offsetof(RemovedRecord, index) },
        { "pin", JSON_FIELD_CHARS, offsetof(RemovedRecord, pin), .size = DIGEST_SIZE },
        { "pin2", JSON_FIELD_CHARS, offsetof(RemovedRecord, pin2), .size = DIGEST_SIZE },
        { "reason", JSON_FIELD_CHARS_CUT, offsetof(RemovedRecord, how), .size = RECORDED_WHY_SIZE },
        { "since", JSON_FIELD_U64, offsetof(RemovedRecord, since_ms) },
};

static int removed_check(void *record, Error *err) {
        const RemovedRecord *removed = record;

        if (*removed->pin && !digest_is_valid(removed->pin))
                return error_set(err, -EBADMSG, "pin: expected 64 lower-case hex digits");
        if (*removed->pin2 && !digest_is_valid(removed->pin2))
                return error_set(err, -EBADMSG, "pin2: expected 64 lower-case hex digits");
        return 0;
}

const JsonRecord removed_record = { JSON_FIELDS(removed_fields), sizeof(RemovedRecord), removed_check };

static const JsonField denied_fields[] = {
        { "machine", JSON_FIELD_CHARS, offsetof(DeniedRecord, machine), .size = MACHINE_ID_SIZE },
        { "since", JSON_FIELD_U64, offsetof(DeniedRecord, since_ms) },
};

const JsonRecord denied_record = { JSON_FIELDS(denied_fields), sizeof(DeniedRecord) };

/* -- Tokens -- */

static const JsonField token_fields[] = {
        { "by", JSON_FIELD_CHARS_CUT, offsetof(TokenRecord, by), .size = RECORDED_BY_SIZE },
        { "expires", JSON_FIELD_U64, offsetof(TokenRecord, expires_ms), true },
        { "from", JSON_FIELD_CHARS, offsetof(TokenRecord, from), .size = NETWORK_SIZE },
        { "hash", JSON_FIELD_CHARS, offsetof(TokenRecord, hash), .size = DIGEST_SIZE },
        { "metadata", JSON_FIELD_PAIRS, offsetof(TokenRecord, metadata) },
        { "replace", JSON_FIELD_CHARS, offsetof(TokenRecord, replace), .size = MACHINE_ID_SIZE },
        { "restricted", JSON_FIELD_BOOL, offsetof(TokenRecord, restricted) },
        { "revoked", JSON_FIELD_BOOL, offsetof(TokenRecord, revoked) },
        { "root", JSON_FIELD_CHARS, offsetof(TokenRecord, root), .size = DIGEST_SIZE },
        { "total", JSON_FIELD_U64, offsetof(TokenRecord, total), true },
        { "uses", JSON_FIELD_U64, offsetof(TokenRecord, uses) },
        { "write", JSON_FIELD_CHARS, offsetof(TokenRecord, write), .size = PREFIXES_SIZE },
};

static int token_check(void *record, Error *err) {
        const TokenRecord *token = record;

        if (!digest_is_valid(token->hash))
                return error_set(err, -EBADMSG, "hash: expected 64 lower-case hex digits");
        if (token->total > TOKEN_USES_MAX || token->uses > token->total)
                return error_set(err, -EBADMSG, "uses: expected at most %d", TOKEN_USES_MAX);
        if (*token->replace && !machine_id_is_valid(token->replace))
                return error_set(err, -EBADMSG, "replace: expected a machine ID");
        if (token->metadata.n > METADATA_KEYS_MAX)
                return error_set(err, -EBADMSG, "metadata: expected at most %d pairs", METADATA_KEYS_MAX);
        return 0;
}

const JsonRecord token_record = { JSON_FIELDS(token_fields), sizeof(TokenRecord), token_check };

/* -- Users -- */

static const JsonField right_fields[] = {
        { "prefix", JSON_FIELD_CHARS, offsetof(PrincipalRight, prefix), .size = PRINCIPAL_PREFIX_SIZE },
        { "right", JSON_FIELD_WORD, offsetof(PrincipalRight, right), true, .words = &right_words },
};

static const JsonList right_list = { JSON_FIELDS(right_fields), sizeof(PrincipalRight), PRINCIPAL_RIGHTS_MAX,
                                     offsetof(PrincipalRecord, n_rights) };

static const JsonField principal_fields[] = {
        { "expires", JSON_FIELD_U64, offsetof(PrincipalRecord, expires_ms) },
        { "pins", JSON_FIELD_LIST, offsetof(PrincipalRecord, pins.items), .list = &principal_pins },
        { "rights", JSON_FIELD_LIST, offsetof(PrincipalRecord, rights), .list = &right_list },
};

static int principal_check(void *record, Error *err) {
        const PrincipalRecord *principal = record;

        for (size_t i = 0; i < principal->n_rights; i++)
                if (*principal->rights[i].prefix && *principal->rights[i].prefix != '/')
                        return error_set(err, -EBADMSG, "prefix: expected a key that begins with '/'");
        return 0;
}

const JsonRecord principal_record = { JSON_FIELDS(principal_fields), sizeof(PrincipalRecord),
                                      principal_check };

/* -- CA -- */

static const JsonField root_fields[] = {
        { "id", JSON_FIELD_CHARS, offsetof(CaRoot, id), .size = DIGEST_SIZE },
        { "pem", JSON_FIELD_OWNED, offsetof(CaRoot, pem), true },
        { "state", JSON_FIELD_WORD, offsetof(CaRoot, state), true, .words = &root_words },
};

static const JsonList root_list = { JSON_FIELDS(root_fields), sizeof(CaRoot), CA_ROOTS_MAX,
                                    offsetof(CaRoots, n) };

static const JsonField ca_roots_fields[] = {
        { "roots", JSON_FIELD_LIST, offsetof(CaRoots, items), .list = &root_list },
};

const CaRoot *ca_roots_current(const CaRoots *roots) {
        for (size_t i = 0; i < roots->n; i++)
                if (roots->items[i].state == CA_ROOT_CURRENT)
                        return &roots->items[i];
        return NULL;
}

static int ca_roots_check(void *record, Error *err) {
        const CaRoots *roots = record;
        size_t n_current = 0;

        for (size_t i = 0; i < roots->n; i++) {
                const CaRoot *root = &roots->items[i];

                if (!digest_is_valid(root->id) || strlen(root->pem) > CA_PEM_MAX)
                        return error_set(err, -EBADMSG,
                                         "roots: expected a digest and at most %d bytes of PEM", CA_PEM_MAX);
                n_current += root->state == CA_ROOT_CURRENT;
        }
        if (n_current != 1)
                return error_set(err, -EBADMSG, "roots: expected one that is current");
        return 0;
}

const JsonRecord ca_roots_record = { JSON_FIELDS(ca_roots_fields), sizeof(CaRoots), ca_roots_check };

static const JsonField key_fields[] = {
        { "clusterKey", JSON_FIELD_U64, offsetof(CaKey, cluster_key), true },
        { "root", JSON_FIELD_CHARS, offsetof(CaKey, root), .size = DIGEST_SIZE },
        { "sealed", JSON_FIELD_OWNED, offsetof(CaKey, sealed), true },
};

static const JsonList key_list = { JSON_FIELDS(key_fields), sizeof(CaKey), CA_ROOTS_MAX,
                                   offsetof(CaKeys, n) };

static const JsonField ca_keys_fields[] = {
        { "keys", JSON_FIELD_LIST, offsetof(CaKeys, items), .list = &key_list },
};

const CaKey *ca_keys_find(const CaKeys *keys, const char *root) {
        for (size_t i = 0; i < keys->n; i++)
                if (streq(keys->items[i].root, root))
                        return &keys->items[i];
        return NULL;
}

static int ca_keys_check(void *record, Error *err) {
        const CaKeys *keys = record;

        for (size_t i = 0; i < keys->n; i++)
                if (!digest_is_valid(keys->items[i].root) || strlen(keys->items[i].sealed) > CA_SEALED_MAX)
                        return error_set(err, -EBADMSG, "keys: expected a digest and at most %d bytes",
                                         CA_SEALED_MAX);
        return 0;
}

const JsonRecord ca_keys_record = { JSON_FIELDS(ca_keys_fields), sizeof(CaKeys), ca_keys_check };

static const JsonField rotation_fields[] = {
        { "compromised", JSON_FIELD_BOOL, offsetof(CaRotation, compromised) },
        { "since", JSON_FIELD_U64, offsetof(CaRotation, since_ms) },
        { "state", JSON_FIELD_WORD, offsetof(CaRotation, state), true, .words = &rotation_words },
};

const JsonRecord ca_rotation_record = { JSON_FIELDS(rotation_fields), sizeof(CaRotation) };

/* -- Settings -- */

static const JsonField settings_fields[] = {
        { "founder", JSON_FIELD_BOOL, offsetof(ClusterSettings, founder) },
        { "name", JSON_FIELD_CHARS, offsetof(ClusterSettings, name), .size = CLUSTER_NAME_MAX + 1 },
        { "peerAuth", JSON_FIELD_WORD, offsetof(ClusterSettings, peer_auth), .words = &auth_words },
        { "restricted", JSON_FIELD_BOOL, offsetof(ClusterSettings, restricted) },
        { "singletonLease", JSON_FIELD_U64, offsetof(ClusterSettings, singleton_lease_ms) },
        { "spread", JSON_FIELD_CHARS, offsetof(ClusterSettings, spread), .size = SPREAD_KEY_MAX + 1 },
        { "sticky", JSON_FIELD_BOOL, offsetof(ClusterSettings, sticky) },
        { "sticky", JSON_FIELD_NOT, offsetof(ClusterSettings, not_sticky) },
        { "voters", JSON_FIELD_U64, offsetof(ClusterSettings, voters) },
};

static int settings_check(void *record, Error *err) {
        const ClusterSettings *settings = record;

        if (settings->voters > VOTERS_MAX || (settings->voters != 0 && settings->voters % 2 == 0))
                return error_set(err, -EBADMSG, "voters: expected 1, 3 or 5");
        return 0;
}

const JsonRecord settings_record = { JSON_FIELDS(settings_fields), sizeof(ClusterSettings), settings_check };

static const JsonField lineage_fields[] = {
        { "ancestor", JSON_FIELD_CHARS, offsetof(LineageRecord, ancestor), .size = LINEAGE_SIZE },
        { "by", JSON_FIELD_CHARS_CUT, offsetof(LineageRecord, by), .size = RECORDED_BY_SIZE },
        { "index", JSON_FIELD_U64, offsetof(LineageRecord, index) },
        { "kind", JSON_FIELD_WORD, offsetof(LineageRecord, kind), true, .words = &lineage_words },
        { "machine", JSON_FIELD_CHARS, offsetof(LineageRecord, machine), .size = MACHINE_ID_SIZE },
};

static int lineage_check(void *record, Error *err) {
        const LineageRecord *lineage = record;

        if (parse_hex_id(lineage->ancestor, LINEAGE_SIZE - 1) < 0)
                return error_set(err, -EBADMSG, "ancestor: expected %d hex digits", LINEAGE_SIZE - 1);
        return 0;
}

const JsonRecord lineage_record = { JSON_FIELDS(lineage_fields), sizeof(LineageRecord), lineage_check };

static const JsonField maintenance_fields[] = {
        { "before", JSON_FIELD_CHARS_CUT, offsetof(MaintenanceRecord, before), .size = MAINTENANCE_FOR_SIZE },
        { "by", JSON_FIELD_CHARS_CUT, offsetof(MaintenanceRecord, by), .size = RECORDED_BY_SIZE },
        { "deadline", JSON_FIELD_U64, offsetof(MaintenanceRecord, deadline_ms) },
        { "for", JSON_FIELD_CHARS_CUT, offsetof(MaintenanceRecord, purpose), .size = MAINTENANCE_FOR_SIZE },
        { "force", JSON_FIELD_BOOL, offsetof(MaintenanceRecord, force) },
        { "mode", JSON_FIELD_WORD, offsetof(MaintenanceRecord, mode), true, .words = &mode_words },
        { "since", JSON_FIELD_U64, offsetof(MaintenanceRecord, since_ms) },
        { "why", JSON_FIELD_CHARS_CUT, offsetof(MaintenanceRecord, why), .size = RECORDED_WHY_SIZE },
};

const JsonRecord maintenance_record = { JSON_FIELDS(maintenance_fields), sizeof(MaintenanceRecord) };

static const JsonField move_fields[] = {
        { "by", JSON_FIELD_CHARS_CUT, offsetof(MoveRecord, by), .size = RECORDED_BY_SIZE },
        { "since", JSON_FIELD_U64, offsetof(MoveRecord, since_ms) },
        { "to", JSON_FIELD_CHARS, offsetof(MoveRecord, to), .required = true, .size = MACHINE_ID_SIZE },
        { "withData", JSON_FIELD_NOT, offsetof(MoveRecord, force) },
};

static int move_check(void *record, Error *err) {
        const MoveRecord *move = record;

        return machine_id_is_valid(move->to) ? 0 :
                                               error_set(err, -EBADMSG, "to: expected the ID of a machine");
}

const JsonRecord move_record = { JSON_FIELDS(move_fields), sizeof(MoveRecord), move_check };

static const JsonField data_fields[] = {
        { "machine", JSON_FIELD_CHARS, offsetof(DataRecord, machine), .required = true,
          .size = MACHINE_ID_SIZE },
        { "since", JSON_FIELD_U64, offsetof(DataRecord, since_ms) },
};

static int data_check(void *record, Error *err) {
        const DataRecord *data = record;

        return machine_id_is_valid(data->machine) ?
                       0 :
                       error_set(err, -EBADMSG, "machine: expected the ID of a machine");
}

const JsonRecord data_record = { JSON_FIELDS(data_fields), sizeof(DataRecord), data_check };

/* Also 0 is a number. */
static void replicas_write_count(Text *t, const char *name, const void *field) {
        const ReplicasRecord *r = field;

        if (!r->is_scaled)
                return;
        json_begin(t, name);
        text_printf(t, "%" PRIu64, r->count);
}

static int replicas_read_count(const JsonValue *member, void *field, Error *err) {
        ReplicasRecord *r = field;

        r->is_scaled = member != NULL;
        return member && json_value_u64(member, &r->count) < 0 ?
                       error_set(err, -EBADMSG, "count: expected a number of instances") :
                       0;
}

static const JsonField replicas_fields[] = {
        { "by", JSON_FIELD_CHARS_CUT, offsetof(ReplicasRecord, by), .size = RECORDED_BY_SIZE },
        { "count", JSON_FIELD_OTHER, 0, .size = sizeof(ReplicasRecord), .write = replicas_write_count,
          .read = replicas_read_count },
        { "file", JSON_FIELD_U64, offsetof(ReplicasRecord, file) },
        { "since", JSON_FIELD_U64, offsetof(ReplicasRecord, since_ms) },
        { "slots", JSON_FIELD_U64, offsetof(ReplicasRecord, slots) },
};

static int replicas_check(void *record, Error *err) {
        const ReplicasRecord *r = record;

        return MAX(r->count, r->slots) <= UNIT_REPLICAS_MAX ?
                       0 :
                       error_set(err, -EBADMSG, "more than %d instances", UNIT_REPLICAS_MAX);
}

const JsonRecord replicas_record = { JSON_FIELDS(replicas_fields), sizeof(ReplicasRecord), replicas_check };
