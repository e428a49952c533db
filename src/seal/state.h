/*
 * Sealing under the policy: the message format joined to the vault.
 *
 * A message's context is the policy key's resolved context plus claviger:name (the state's name)
 * and claviger:generation (a decimal counter), so that a message of another name or generation
 * cannot be passed off (R17, R18). Unsealing compares the header's key and context with the ones
 * the policy gives; it never believes them.
 */
#ifndef CLV_SEAL_STATE_H
#define CLV_SEAL_STATE_H

#include <claviger/seal.h>
#include <vault/vault.h>

#define CLV_STATE_CONTEXT_NAME       "claviger:name"
#define CLV_STATE_CONTEXT_GENERATION "claviger:generation"

#define CLV_STATE_NAME_MAX 128
#define CLV_STATE_SIZE_MAX ((size_t)32 * 1024 * 1024)

/* 1 to 128 of A-Z a-z 0-9 . _ - /, not beginning or ending with "/" nor with "//" or ".." inside:
 * CLV_STATE_NAME. */
CLV_NODISCARD clv_status clv_state_name_check(const char *name, clv_error *err);

/*
 * What can be seen of a stored message without its key: its header and frames are whole, its
 * context names this state and generation, and a key of KMS is there to open it. That it opens is
 * not said. CLV_SEAL_FORMAT and its like, CLV_SEAL_CONTEXT, CLV_TRUNCATED, CLV_STATE_NAME.
 */
CLV_NODISCARD clv_status clv_state_shape_check(const char *name, uint64_t generation,
                                               clv_bytes sealed, clv_error *err);

/* Seal the whole of plaintext; the message is appended to *sealed. */
CLV_NODISCARD clv_status clv_state_seal(clv_vault *vault, const clv_policy_key *key,
                                        const char *name, uint64_t generation, clv_bytes plaintext,
                                        clv_buf *sealed, clv_error *err);

/*
 * Unseal a whole message that must be of this name and generation. *plaintext is appended to only
 * when every byte verified. *predecessor (may be NULL): whether it was sealed under a context that
 * the policy lists as a predecessor. CLV_SEAL_KEY, CLV_SEAL_CONTEXT, CLV_SEAL_AUTHENTICATION, …
 */
CLV_NODISCARD clv_status clv_state_unseal(clv_vault *vault, const clv_policy_key *key,
                                          const char *name, uint64_t generation, clv_bytes sealed,
                                          clv_buf *plaintext, bool *predecessor, clv_error *err);

/*
 * Under whose context a message of this name and generation says it is sealed: the policy's own, or
 * a predecessor's. Its header is compared as for unsealing, and nothing is asked of KMS: that it
 * opens is not shown. CLV_SEAL_KEY, CLV_SEAL_CONTEXT, …
 */
CLV_NODISCARD clv_status clv_state_release(clv_vault *vault, const clv_policy_key *key,
                                           const char *name, uint64_t generation, clv_bytes sealed,
                                           bool *predecessor, clv_error *err);

/*
 * The same as streams. The data key is opened, used to derive the message's own key and wiped
 * before these return; what streams afterwards needs it no more. frame_length: 1 to
 * CLV_SEAL_FRAME_MAX. header: parsed, not yet compared; that is done here, before any call to KMS.
 * What an unsealer released before it failed must be thrown away by its caller.
 */
#define CLV_STATE_STREAM_FRAME 65536
CLV_NODISCARD clv_status clv_state_sealer(clv_vault *vault, const clv_policy_key *key,
                                          const char *name, uint64_t generation,
                                          uint32_t frame_length, clv_sink sink, void *to,
                                          clv_sealer **out, clv_error *err);
CLV_NODISCARD clv_status clv_state_unsealer(clv_vault *vault, const clv_policy_key *key,
                                            const char *name, uint64_t generation,
                                            const clv_seal_header *header, clv_sink sink, void *to,
                                            clv_unsealer **out, bool *predecessor, clv_error *err);

#endif
