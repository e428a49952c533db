/*
 * A request of an agent, apart from the library that carried it: api.c fills a clv_http_head and
 * the body, this room's routes answer. Everything that can be refused before the body is read is
 * refused by clv_request_begin(): route, method, query, headers, size, capability.
 */
#ifndef CLV_ENCLAVE_REQUEST_H
#define CLV_ENCLAVE_REQUEST_H

#include <base/log.h>
#include <enclave/enclave.h>
#include <seal/state.h>

/* What sealing adds: per frame of CLV_SEAL_FRAME a sequence number, an IV and a tag (32 bytes),
 * and the header. */
#define CLV_SEALED_MAX (CLV_STATE_SIZE_MAX + CLV_STATE_SIZE_MAX / 64 + CLV_SEAL_HEADER_MAX)

#define CLV_QUERY_MAX  8
#define CLV_WAIT_MAX_S 25 /* below CLV_API_IDLE_S, so that agents' own timeouts of 30 s fit */
/* A body that may be read before its agent is judged. */
#define CLV_BODY_SMALL 8192

/* Which socket a request came through: each has routes of its own. */
typedef enum clv_front {
    CLV_FRONT_AGENT,  /* ours: docs/openapi.yaml */
    CLV_FRONT_DSTACK, /* the calls of dstack's guest agent */
    CLV_FRONT_ROFL,   /* the calls of Oasis ROFL's appd */
} clv_front;

/* The head as it came; every text is untrusted, still percent-encoded, and may be NULL. */
typedef struct clv_http_head {
    clv_front front;
    const char *method;
    const char *path;
    struct clv_http_parameter {
        const char *name, *value;
    } query[CLV_QUERY_MAX];
    size_t query_count; /* more than CLV_QUERY_MAX when some did not fit */
    const char *content_type;
    const char *content_length;
    const char *if_match;
    const char *if_none_match;
    const char *upgrade;
    const char *receipts; /* Claviger-Receipt: docs/freshness.md */
} clv_http_head;

typedef struct clv_request clv_request;
typedef struct clv_response clv_response;
typedef clv_status (*clv_route_serve)(clv_request *request, clv_response *response, clv_error *err);

/* The query parameters there are; a route lists the ones it takes as bits. */
typedef enum clv_parameter {
    CLV_PARAMETER_KEY,
    CLV_PARAMETER_NAME,
    CLV_PARAMETER_PREFIX,
    CLV_PARAMETER_WAIT, /* the route also takes an ETag in If-None-Match */
    CLV_PARAMETER_COUNT
} clv_parameter;
#define CLV_TAKES(parameter) (1U << (parameter))

/* The conditional headers that a route takes: bits. */
#define CLV_IF_MATCH      1U
#define CLV_IF_NONE_MATCH 2U

typedef struct clv_route {
    clv_front front;
    const char *method;
    const char *path;         /* a last segment "{name}" takes the rest of the path */
    const char *verb;         /* the capability needed, on the key and name; NULL: none, or … */
    const char *verb_in_body; /* … on the key and the path that the body names */
    unsigned takes, needs;    /* query parameters: bits of clv_parameter */
    unsigned conditions;      /* CLV_IF_… */
    size_t body_max;
    unsigned copies; /* of the body's size that serving it takes, the body included; 0: one */
    bool json;       /* the body must be application/json */
    bool metered;    /* counts against the agent's rate */
    bool works;      /* calls KMS, the module or the store: takes one of the agent's turns, and each
                        answer is worth a log line at level info */
    bool stream;     /* the connection is upgraded: stream.h */
    clv_route_serve serve;
} clv_route;

/* The table, ended by a route without method. */
extern const clv_route clv_routes[];

struct clv_request {
    clv_enclave *enclave;
    clv_front front;
    const clv_route *route; /* NULL: none was found */
    clv_agent agent;
    char operation[CLV_OPERATION_ID_SIZE];
    uint64_t started_us;
    char name[CLV_STATE_NAME_MAX + 1]; /* of the path or the query; "" when there is none */
    char prefix[CLV_STATE_NAME_MAX + 1];
    /*
     * "<key>/<name>": what a state is called in the store and in its sealed message. Agents with
     * different keys cannot meet there, even when two keys of the policy are one in KMS.
     */
    char full_name[CLV_POLICY_NAME_MAX + 1 + CLV_STATE_NAME_MAX + 1];
    const clv_policy_key *key; /* set when the route takes a key */
    bool if_match, create_only;
    bool if_none_match;        /* of an ETag, in a read */
    uint64_t match_generation; /* of either header */
    int wait_ms;               /* for a change; 0: no waiting */
    char allow[64];            /* after CLV_API_METHOD: the methods that the path takes */
    clv_buf presented;         /* the caller's receipts, as they came */
    clv_buf receipt;           /* the Claviger-Receipt header of the answer, when not empty */
    clv_buf body;
    size_t held;  /* bytes that count against the agent's share */
    bool at_work; /* it has one of the agent's turns */
};

struct clv_response {
    unsigned status;
    const char *media_type;
    char allow[64];      /* the Allow header, when not "" */
    uint64_t generation; /* the ETag header, when not 0 */
    clv_buf body;
    struct clv_stream *stream; /* what the connection becomes after a 101 */
};

#define CLV_RESPONSE_INIT                     \
    {                                         \
        200, NULL, {0}, 0, CLV_BUF_INIT, NULL \
    }
void clv_request_drop(clv_request *request);
void clv_response_drop(clv_response *response);

/*
 * Take the head in. The request keeps nothing of it. On failure the response is not touched; the
 * caller answers with clv_request_refuse().
 */
CLV_NODISCARD clv_status clv_request_begin(clv_request *request, clv_enclave *enclave,
                                           const clv_agent *agent, const clv_http_head *head,
                                           clv_error *err);

/* Since its head came. */
uint64_t clv_request_age_ms(const clv_request *request);

/* Hold n more bytes against the agent's share, for what serving the request takes beyond its
 * body; all is given back when it has been answered. CLV_AGENT_BUSY. */
CLV_NODISCARD clv_status clv_request_hold(clv_request *request, size_t n, clv_error *err);
/* Give back what is held beyond n bytes in all, body included: once it is known what is needed. */
void clv_request_hold_only(clv_request *request, size_t n);

/* Take one of the agent's turns, unless the request has one; give it back. CLV_AGENT_BUSY. */
CLV_NODISCARD clv_status clv_request_begin_turn(clv_request *request, clv_error *err);
void clv_request_end_turn(clv_request *request);

/* One more piece of the body. CLV_TOO_LARGE, CLV_AGENT_BUSY. */
CLV_NODISCARD clv_status clv_request_body(clv_request *request, clv_bytes piece, clv_error *err);

/* Answer a request whose body is complete: the route's answer, or the problem document. */
void clv_request_serve(clv_request *request, clv_response *response);

/* Make the problem document for this failure the response. */
void clv_request_refuse(clv_request *request, clv_response *response, const clv_error *problem);

/* Percent-decoding (RFC 3986 section 2.1) of a NUL-terminated text. CLV_BAD_ENCODING: a bad
 * escape, an escaped NUL, or bytes that are not UTF-8; CLV_TOO_LARGE: beyond size - 1 bytes. */
CLV_NODISCARD clv_status clv_percent_decode(const char *text, char *out, size_t size,
                                            clv_error *err);

/* An answer of JSON: the reference is taken; NULL is CLV_NO_MEMORY. */
CLV_NODISCARD clv_status clv_response_json(clv_response *response, json_t *json, clv_error *err);
/* A member of an answer; takes the value, NULL (no memory) too. */
CLV_NODISCARD clv_status clv_response_member(json_t *object, const char *name, json_t *value,
                                             clv_error *err);

#endif
