/* Certificates of a cluster: creation, and the checks that decide which host or user a certificate names.
 *
 * A leaf names its subject by exactly one URI, "fleet://CLUSTER/ROLE/SUBJECT". A known subject is
 * authenticated by its pin, the SHA-256 of its public key, independently of the dates and the root of its
 * certificate: neither an expired certificate nor a wrong clock locks a host out, and the removal of a pin is
 * the revocation. A chain to a root counts only where no pin is known.
 *
 * Keys are P-256, signatures ECDSA with SHA-256. Keys, requests and certificates at rest are PEM. Time is an
 * argument: 'now_ms' is the wall clock in ms since 1970. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "base/text.h"

enum {
        TLS_PIN_BYTES = 32,
        TLS_SERIAL_BYTES = 16,
        TLS_PINS_MAX = 2,      /* of one subject: the current key, and the next one until it was used */
        TLS_SUBJECT_SIZE = 65, /* a machine ID, or the name of a user, with its terminator */
        TLS_URI_SIZE = 128,    /* with its terminator */
        TLS_LEAF_MAX = 4096,   /* bytes of DER; also of a request */
        TLS_CHAIN_MAX = 3,     /* certificates that a peer sends */
        TLS_ROOTS_MAX = 8,     /* roots that a host stores */
        TLS_NAMES_MAX = 32,    /* other names in the certificate of a listener */
        TLS_CLOCK_TOLERANCE_MS = 600000,
};

/* Lifetimes in ms. */
#define TLS_ROOT_LIFETIME_MS     (3650 * UINT64_C(86400000))
#define TLS_LEAF_LIFETIME_MS     (30 * UINT64_C(86400000))
#define TLS_USER_LIFETIME_MAX_MS (365 * UINT64_C(86400000))

/* SHA-256 of the SubjectPublicKeyInfo of a key. Plain value. */
typedef struct TlsPin {
        uint8_t bytes[TLS_PIN_BYTES];
} TlsPin;

enum { TLS_PIN_SIZE = 2 * TLS_PIN_BYTES + 1 }; /* 64 lower-case hex digits with their terminator */

bool tls_pin_equal(const TlsPin *a, const TlsPin *b);
void tls_pin_print(const TlsPin *pin, char ret[static TLS_PIN_SIZE]);
int tls_pin_parse(const char *s, TlsPin *ret); /* 0 or -EINVAL */

/* The role that a certificate claims. */
typedef enum TlsRole {
        TLS_ROLE_HOST,
        TLS_ROLE_REPLICA,
        TLS_ROLE_USER,
        TLS_ROLE_LISTENER,
        _TLS_ROLE_MAX,
        _TLS_ROLE_INVALID = -EINVAL,
} TlsRole;

extern const char *const tls_role_names[_TLS_ROLE_MAX]; /* "host", ... */

/* "fleet://CLUSTER/ROLE/SUBJECT". Plain value; the subject is terminated. */
typedef struct TlsUri {
        uint64_t cluster_id; /* 16 hex digits in the URI */
        TlsRole role;
        char subject[TLS_SUBJECT_SIZE]; /* 32 hex digits of a machine ID; the name of a user: 1 to 64 of
                                         * a-z 0-9 . _ - that begin with a letter or digit */
} TlsUri;

void tls_uri_print(const TlsUri *uri, char ret[static TLS_URI_SIZE]);
/* Accept the one spelling that tls_uri_print() gives; -EBADMSG with a message for any other bytes. */
int tls_uri_read(const void *bytes, size_t size, TlsUri *ret, Error *err);

/* Return whether a certificate of a listener may have this name: an IP address, or a DNS name without
 * wildcard. */
bool tls_name_is_valid(const char *name);

/* -- Private keys -- */

typedef struct TlsPrivateKey TlsPrivateKey;

int tls_private_key_new(TlsPrivateKey **ret, Error *err);
/* Read PEM (PKCS #8 or "EC PRIVATE KEY"). -EINVAL: not a private key, or not of P-256. */
int tls_private_key_read(const char *pem, size_t size, TlsPrivateKey **ret, Error *err);
/* Return PKCS #8 PEM in *ret, terminated, for tls_secret_free(). */
int tls_private_key_print(const TlsPrivateKey *key, char **ret, size_t *ret_size, Error *err);
void tls_private_key_pin(const TlsPrivateKey *key, TlsPin *ret);
TlsPrivateKey *tls_private_key_free(TlsPrivateKey *key); /* wipes the key; returns NULL */
DEFINE_CLEANUP(TlsPrivateKey *, tls_private_key_free);
/* Wipe and free 'size' bytes. Returns NULL. */
void *tls_secret_free(void *secret, size_t size);

/* -- Requests and certificates: PEM, appended to 'ret' -- */

/* Create a certificate signing request: it proves the possession of 'key', and asks for nothing. */
int tls_request_create(const TlsPrivateKey *key, Text *ret, Error *err);
/* Check a request: one, of at most TLS_LEAF_MAX bytes, of a P-256 key that signed it. Its names and
 * extensions have no meaning. -EBADMSG with a message. */
int tls_request_read(const char *pem, size_t size, TlsPin *ret, Error *err);

/* Create a self-signed root "fleet CLUSTER", valid for TLS_ROOT_LIFETIME_MS from 1 h before 'now_ms'.
 * 'serial': random. */
int tls_root_create(const TlsPrivateKey *key, uint64_t cluster_id,
                    const uint8_t serial[static TLS_SERIAL_BYTES], uint64_t now_ms, Text *ret, Error *err);

typedef struct TlsIssue {
        TlsUri uri;
        const char *common_name; /* for people only: at most 64 bytes; other than printable ASCII becomes '?';
                                    may be NULL */
        const char *const *names; /* IP addresses and DNS names of a listener; otherwise NULL */
        size_t n_names;
        uint8_t serial[TLS_SERIAL_BYTES]; /* random */
        uint64_t now_ms, lifetime_ms;     /* valid from now_ms - 1 h to now_ms + lifetime_ms */
        const char *request;              /* PEM, of the key to certify */
        size_t request_size;
        const char *root; /* PEM, of the CA */
        size_t root_size;
} TlsIssue;

/* Issue a leaf, signed with 'ca_key', the private key of the root. Errors with a message:
 *   -EBADMSG   the request (see tls_request_read()) or the root is invalid
 *   -EINVAL    another member is invalid, or 'ca_key' is not the key of the root */
int tls_issue(const TlsIssue *issue, const TlsPrivateKey *ca_key, Text *ret, Error *err);

/* The content of a certificate. Plain value. */
typedef struct TlsCertificate {
        TlsUri uri; /* role _TLS_ROLE_INVALID: a root */
        TlsPin pin;
        uint64_t not_before_ms, not_after_ms; /* issued 1 h after 'not_before_ms' */
} TlsCertificate;

/* Read the first certificate of 'pem': a leaf of this format (fields only; no signature is checked), or a
 * root. -EBADMSG with a message. */
int tls_certificate_read(const char *pem, size_t size, TlsCertificate *ret, Error *err);

/* The roots that a host trusts: 1 to TLS_ROOTS_MAX certificates in PEM. */
typedef struct TlsRoots TlsRoots;

int tls_roots_read(const char *pem, size_t size, TlsRoots **ret, Error *err); /* -EBADMSG with a message */
size_t tls_roots_count(const TlsRoots *roots);
void tls_roots_get(const TlsRoots *roots, size_t i, TlsCertificate *ret);
TlsRoots *tls_roots_free(TlsRoots *roots); /* returns NULL */
/* Append what a host sends in TLS: the first certificate of 'leaf', then the root that signed it, if it is
 * one of 'roots'. PEM. -EBADMSG with a message. */
int tls_roots_chain(const TlsRoots *roots, const char *leaf, size_t size, Text *ret, Error *err);
DEFINE_CLEANUP(TlsRoots *, tls_roots_free);

/* -- Verification -- */

typedef enum TlsKnownState { TLS_UNKNOWN, TLS_KNOWN, TLS_REMOVED } TlsKnownState;

/* The knowledge of this host about the subject of a certificate. Zero: nothing, and a chain does not help. */
typedef struct TlsKnown {
        TlsKnownState state;
        bool replica;      /* of a known machine: the cluster's configuration has a replica on it */
        bool chain_counts; /* this host's knowledge may be out of date: a replica without a tree, or with one
                            * that lags, and an attached host whose known replicas are all silent. Then a
                            * valid chain admits an unknown replica, and the role replica of a known machine;
                            * so does a pin from an earlier time of a machine that is unknown now. */
        bool chain_waits;  /* a chain will count when the known replicas were silent for longer */
        uint64_t issued_after_ms; /* a chain counts only for a certificate that was issued later; then it
                                   * admits a known replica with another key, too. 0: for any */
        unsigned n_pins;
        TlsPin pins[TLS_PINS_MAX];
} TlsKnown;

typedef struct TlsCheck {
        uint64_t cluster_id;
        unsigned roles; /* bits 1u << TLS_ROLE_...: those that are allowed here */
        uint64_t now_ms;
        const TlsRoots *roots; /* may be NULL */
        /* Of a token, for a joining host: the chain must end with the root of this pin. Dates, known() and
         * 'roots' then have no effect. Otherwise NULL. */
        const TlsPin *root_pin;
        /* Set *ret, which is zero before, for a machine ID or for the name of a user. NULL: none is known. */
        void (*known)(void *userdata, TlsRole role, const char *subject, TlsKnown *ret);
        void *userdata;
} TlsCheck;

typedef struct TlsVerified {
        TlsCertificate leaf;
        bool by_pin;  /* at any date, and of any root; otherwise by its chain */
        bool replica; /* may send the frames of a replica; the certificate of a known machine gives no role */
} TlsVerified;

typedef struct TlsDer {
        const void *bytes; /* borrowed */
        size_t size;
} TlsDer;

/* Decide about the certificates that a peer sent, its leaf first. The possession of the private key is the
 * matter of TLS. Pure, except for known(). The checks are made in this order; the first that fails gives the
 * error, each with a message of its own:
 *   -EBADMSG       no certificate, or not one leaf of this format
 *   -EXDEV         of another cluster
 *   -EACCES        the role is not allowed here
 *   -EKEYREVOKED   the subject was removed
 *   -EKEYREJECTED  the machine has another key
 *   -ENOKEY        the machine is unknown, and its chain does not count; no user with this key
 *   -EPERM         the chain leads to no trusted root
 *   -EKEYEXPIRED   expired, not yet valid, or issued too early
 *   -ENOMEM */
int tls_verify(const TlsDer *chain, size_t n, const TlsCheck *check, TlsVerified *ret, Error *err);
