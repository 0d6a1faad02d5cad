/* The join by a token as bytes: the request of a host without a certificate (PEER_ENTER), and the answer of
 * the cluster (PEER_ENTERED). Pure; the bytes may come from any host. The machine ID and the name of the host
 * are those of the session's handshake. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/sizes.h"
#include "io/tls_roles.h"
#include "units/token.h"

enum {
        ENTER_PROTOCOL = 1,
        ENTER_CSR_MAX = 2 * TLS_LEAF_MAX, /* bytes of PEM */
        ENTER_CERT_MAX = 2 * TLS_LEAF_MAX,
        ENTER_ROOTS_MAX = 2 * TLS_LEAF_MAX * TLS_ROOTS_MAX,
        ENTER_ENDPOINTS_MAX = 16,
        ENTER_REQUEST_MAX = ENTER_CSR_MAX + 256, /* bytes of the frame */
};

/* Strings are owned. It contains a secret: enter_request_done() wipes it. */
typedef struct EnterRequest {
        char token[TOKEN_ID_SIZE];
        uint8_t secret[TOKEN_SECRET_BYTES];
        char *csr;      /* PEM */
        unsigned level; /* the highest feature level that the host supports */
        bool exposed;   /* the token was an argument of a command: other users of the host may have seen it */
} EnterRequest;

typedef struct EnterAnswer {
        char *refusal; /* the reason and the next command; NULL: accepted */
        uint64_t cluster_id, lineage;
        char *certificate, *roots;                         /* PEM */
        char endpoints[ENTER_ENDPOINTS_MAX][ADDRESS_SIZE]; /* of the replicas */
        size_t n_endpoints;
} EnterAnswer;

void enter_request_done(EnterRequest *request);
void enter_answer_done(EnterAnswer *answer);
#define _cleanup_enter_request_ _cleanup_(enter_request_done)
#define _cleanup_enter_answer_  _cleanup_(enter_answer_done)

void enter_request_write(const EnterRequest *request, Writer *w);
/* -EBADMSG with a message: not a request of this version. -ENOMEM. */
int enter_request_read(const void *bytes, size_t size, EnterRequest *ret, Error *err);

void enter_answer_write(const EnterAnswer *answer, Writer *w);
/* -EBADMSG with a message: not an answer of this version, or without a member that it needs. -ENOMEM. */
int enter_answer_read(const void *bytes, size_t size, EnterAnswer *ret, Error *err);
