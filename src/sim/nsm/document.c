/* The encoder side of the attestation document, with no code of the verifier's. */
#include <openssl/ec.h>

#include <base/cbor.h>
#include <sim/nsm/nsm.h>

#define ES384           34 /* as a CBOR negative: alg -35 (RFC 9053 section 2.1) */
#define COORDINATE_SIZE 48

static clv_status put_optional(clv_buf *out, const char *name, nsm_optional value, clv_error *err)
{
    CLV_TRY(clv_cbor_put_text(out, name, err));
    return value.present ? clv_cbor_put_bytes(out, value.bytes, err) : clv_cbor_put_null(out, err);
}

/* Only locked registers appear in a document. */
static clv_status put_pcrs(clv_buf *out, const nsm_bank *bank, clv_error *err)
{
    size_t locked = 0;
    for (unsigned i = 0; i < NSM_PCR_COUNT; i++)
        locked += bank->pcr[i].locked;
    CLV_TRY(clv_cbor_put_text(out, "pcrs", err));
    CLV_TRY(clv_cbor_put_map(out, locked, err));
    for (unsigned i = 0; i < NSM_PCR_COUNT; i++) {
        if (!bank->pcr[i].locked)
            continue;
        CLV_TRY(clv_cbor_put_uint(out, i, err));
        CLV_TRY(clv_cbor_put_bytes(out, CLV_BYTES(bank->pcr[i].value, NSM_PCR_SIZE), err));
    }
    return CLV_OK;
}

static clv_status put_certificate(clv_buf *out, const X509 *certificate, clv_error *err)
{
    uint8_t *der = NULL;
    int n = i2d_X509(certificate, &der);
    if (n <= 0)
        return clv_fail_openssl(err, CLV_INTERNAL, "a certificate cannot be encoded");
    clv_status status = clv_cbor_put_bytes(out, CLV_BYTES(der, (size_t)n), err);
    OPENSSL_free(der);
    return status;
}

static clv_status put_chain(clv_buf *out, const nsm_chain *chain, clv_error *err)
{
    CLV_TRY(clv_cbor_put_text(out, "certificate", err));
    CLV_TRY(put_certificate(out, chain->certificate[NSM_LEAF], err));
    CLV_TRY(clv_cbor_put_text(out, "cabundle", err));
    CLV_TRY(clv_cbor_put_array(out, NSM_LEAF, err));
    for (int i = NSM_ROOT; i < NSM_LEAF; i++)
        CLV_TRY(put_certificate(out, chain->certificate[i], err));
    return CLV_OK;
}

static clv_status put_payload(clv_buf *out, const nsm_chain *chain, const nsm_bank *bank,
                              const nsm_ask *ask, bool indefinite, clv_error *err)
{
    CLV_TRY(indefinite ? clv_buf_u8(out, 0xbf, err) : clv_cbor_put_map(out, 9, err));
    CLV_TRY(clv_cbor_put_text(out, "module_id", err));
    CLV_TRY(clv_cbor_put_text(out, chain->module_id, err));
    CLV_TRY(clv_cbor_put_text(out, "digest", err));
    CLV_TRY(clv_cbor_put_text(out, "SHA384", err));
    CLV_TRY(clv_cbor_put_text(out, "timestamp", err));
    CLV_TRY(clv_cbor_put_uint(out, nsm_chain_now_ms(chain), err));
    CLV_TRY(put_pcrs(out, bank, err));
    CLV_TRY(put_chain(out, chain, err));
    CLV_TRY(put_optional(out, "public_key", ask->public_key, err));
    CLV_TRY(put_optional(out, "user_data", ask->user_data, err));
    CLV_TRY(put_optional(out, "nonce", ask->nonce, err));
    return indefinite ? clv_buf_u8(out, 0xff, err) : CLV_OK;
}

/* DER to r || s, each of 48 bytes (RFC 9053 section 2.1). */
static clv_status put_raw_signature(clv_buf *out, const uint8_t *der, size_t n, clv_error *err)
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
    uint8_t raw[2 * COORDINATE_SIZE];
    bool split = sig != NULL &&
                 BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, COORDINATE_SIZE) == COORDINATE_SIZE &&
                 BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + COORDINATE_SIZE, COORDINATE_SIZE) ==
                     COORDINATE_SIZE;
    ECDSA_SIG_free(sig);
    if (!split)
        return clv_fail_openssl(err, CLV_INTERNAL, "a signature cannot be split");
    return clv_cbor_put_bytes(out, CLV_BYTES(raw, sizeof raw), err);
}

static clv_status put_signature(clv_buf *out, EVP_PKEY *key, const clv_buf *tbs, clv_error *err)
{
    uint8_t der[256];
    size_t n = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool made = ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key) == 1 &&
                EVP_DigestSign(ctx, der, &n, tbs->p, tbs->n) == 1;
    EVP_MD_CTX_free(ctx);
    if (!made)
        return clv_fail_openssl(err, CLV_INTERNAL, "a document cannot be signed");
    return put_raw_signature(out, der, n, err);
}

clv_status nsm_document_make(nsm_chain *chain, const nsm_bank *bank, const nsm_ask *ask,
                             bool indefinite, clv_buf *out, clv_error *err)
{
    clv_auto(clv_buf) header = CLV_BUF_INIT;
    clv_auto(clv_buf) payload = CLV_BUF_INIT;
    clv_auto(clv_buf) tbs = CLV_BUF_INIT; /* RFC 9052 section 4.4: Sig_structure */
    CLV_TRY(nsm_chain_refresh(chain, err));
    CLV_TRY(clv_cbor_put_map(&header, 1, err));
    CLV_TRY(clv_cbor_put_uint(&header, 1, err));
    CLV_TRY(clv_cbor_put_negint(&header, ES384, err));
    CLV_TRY(put_payload(&payload, chain, bank, ask, indefinite, err));
    CLV_TRY(clv_cbor_put_array(&tbs, 4, err));
    CLV_TRY(clv_cbor_put_text(&tbs, "Signature1", err));
    CLV_TRY(clv_cbor_put_bytes(&tbs, clv_buf_bytes(&header), err));
    CLV_TRY(clv_cbor_put_bytes(&tbs, CLV_BYTES(NULL, 0), err));
    CLV_TRY(clv_cbor_put_bytes(&tbs, clv_buf_bytes(&payload), err));
    CLV_TRY(clv_cbor_put_array(out, 4, err));
    CLV_TRY(clv_cbor_put_bytes(out, clv_buf_bytes(&header), err));
    CLV_TRY(clv_cbor_put_map(out, 0, err));
    CLV_TRY(clv_cbor_put_bytes(out, clv_buf_bytes(&payload), err));
    return put_signature(out, chain->key[NSM_LEAF], &tbs, err);
}
