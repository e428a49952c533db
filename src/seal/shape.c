/* What can be seen of a stored message without its key. */
#include <stdio.h>

#include <seal/sealer.h>
#include <seal/state.h>
#include <seal/suite.h>

static clv_status check_pair(const clv_context *context, const char *key, const char *expected,
                             clv_error *err)
{
    const char *found = clv_context_get(context, key);
    if (found == NULL || strcmp(found, expected) != 0)
        return clv_fail(err, CLV_SEAL_CONTEXT, "expected %s \"%.160s\", found %s%.160s%s", key,
                        expected, found != NULL ? "\"" : "", found != NULL ? found : "none",
                        found != NULL ? "\"" : "");
    return CLV_OK;
}

static clv_status check_data_keys(const clv_seal_header *header, clv_error *err)
{
    for (size_t i = 0; i < header->data_key_count; i++) {
        const clv_seal_data_key *key = &header->data_key[i];
        if (key->encrypted.n == 0 || key->encrypted.n > CLV_CIPHERTEXT_BLOB_MAX)
            return clv_fail(err, CLV_SEAL_DATA_KEYS,
                            "expected a wrapped key of 1 to %d bytes, found %zu",
                            CLV_CIPHERTEXT_BLOB_MAX, key->encrypted.n);
        if (clv_bytes_equal(key->provider, clv_bytes_of(CLV_SEAL_PROVIDER)))
            return CLV_OK;
    }
    return clv_fail(err, CLV_SEAL_DATA_KEYS, "expected a key wrapped by KMS, found none");
}

/* Frames 1, 2, … of the whole length, then a final one of at most that, then nothing. */
static clv_status check_frames(clv_bytes body, uint32_t frame_length, clv_error *err)
{
    clv_cursor c = clv_cursor_of(body);
    clv_bytes skipped;
    for (uint32_t expected = 1;; expected++) {
        uint32_t sequence, length = frame_length;
        CLV_TRY(clv_cursor_u32(&c, &sequence, err));
        bool final = sequence == CLV_SEAL_END_MARKER;
        if (final)
            CLV_TRY(clv_cursor_u32(&c, &sequence, err));
        if (sequence != expected)
            return clv_fail(err, CLV_SEAL_FORMAT, "expected frame %u, found frame %u", expected,
                            sequence);
        CLV_TRY(clv_cursor_take(&c, CLV_SEAL_IV_SIZE, &skipped, err));
        if (final)
            CLV_TRY(clv_cursor_u32(&c, &length, err));
        if (length > frame_length)
            return clv_fail(err, CLV_SEAL_FORMAT,
                            "expected a final frame of at most %u bytes, found %u", frame_length,
                            length);
        CLV_TRY(clv_cursor_take(&c, (size_t)length + CLV_SEAL_TAG_SIZE, &skipped, err));
        if (final && c.rest.n > 0)
            return clv_fail(err, CLV_SEAL_TRAILING,
                            "expected the message to end with its final frame, found %zu bytes "
                            "more",
                            c.rest.n);
        if (final)
            return CLV_OK;
    }
}

clv_status clv_state_shape_check(const char *name, uint64_t generation, clv_bytes sealed,
                                 clv_error *err)
{
    clv_auto(clv_seal_header) header = {0};
    char decimal[24];
    clv_cursor c = clv_cursor_of(sealed);
    clv_bytes head;
    snprintf(decimal, sizeof decimal, "%llu", (unsigned long long)generation);
    CLV_TRY(clv_state_name_check(name, err));
    CLV_TRY(clv_seal_header_parse(sealed, &header, err));
    CLV_TRY(check_data_keys(&header, err));
    CLV_TRY(clv_cursor_take(&c, header.length, &head, err));
    CLV_TRY(check_frames(c.rest, header.frame_length, err));
    CLV_TRY(check_pair(&header.context, CLV_STATE_CONTEXT_NAME, name, err));
    return check_pair(&header.context, CLV_STATE_CONTEXT_GENERATION, decimal, err);
}
