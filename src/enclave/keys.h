/*
 * A derived key and what is to be done with it, whoever asked: the agents' API or one of the front
 * ends that speak another project's.
 */
#ifndef CLV_ENCLAVE_KEYS_H
#define CLV_ENCLAVE_KEYS_H

#include <enclave/request.h>
#include <vault/derive.h>

typedef struct clv_key_ask {
    const char *verb; /* derive, public, sign or hmac: also the capability that is needed */
    clv_derivation derivation;
    const char *root_id; /* the root that the agent expects, in hex; NULL: any */
    clv_bytes message;   /* sign, hmac */
    bool is_digest;      /* sign: the message is a digest of 32 bytes */
} clv_key_ask;

/*
 * *answer is a new object: key_name, algorithm, purpose, path, root_id and, as the verb has them,
 * key, public_key, signature or tag, all in hex. The capability is checked before anything else.
 */
CLV_NODISCARD clv_status clv_keys_answer(clv_request *request, const clv_key_ask *ask,
                                         json_t **answer, clv_error *err);

#endif
