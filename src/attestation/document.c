#include <claviger/attestation.h>

#include <attestation/chain.h>
#include <attestation/cose.h>
#include <attestation/payload.h>

const char *clv_document_kind_name(clv_document_kind kind)
{
    return kind == CLV_KIND_NITROTPM ? "nitrotpm" : "enclave";
}

clv_status clv_document_parse(clv_bytes bytes, clv_document *out, clv_error *err)
{
    if (bytes.n < 1 || bytes.n > CLV_DOCUMENT_MAX)
        return clv_fail(err, CLV_ATT_SIZE, "expected a document of 1 to %d bytes, found %zu",
                        CLV_DOCUMENT_MAX, bytes.n);
    clv_cose cose;
    clv_document document = {0};
    CLV_TRY(clv_cose_parse(bytes, &cose, err));
    CLV_TRY(clv_payload_parse(cose.payload, &document, err));
    CLV_TRY(clv_cose_check_unprotected(&cose, err));
    document.tagged = cose.tagged;
    document.protected_header = cose.protected_header;
    document.payload = cose.payload;
    document.signature = cose.signature;
    *out = document;
    return CLV_OK;
}

void clv_verify_options_init(clv_verify_options *options)
{
    clv_bytes aws_root = clv_bytes_of(CLV_AWS_ROOT_SHA256);
    *options = (clv_verify_options){.kind = CLV_KIND_ENCLAVE, .at_ms = CLV_AT_DOCUMENT};
    /* The constant decodes. Were it ever wrong, the zeros left behind match no certificate. */
    if (clv_hex_decode_exact(aws_root, options->root_sha256, CLV_ROOT_DIGEST_SIZE, NULL) != CLV_OK)
        memset(options->root_sha256, 0, CLV_ROOT_DIGEST_SIZE);
}

clv_status clv_document_verify(clv_bytes bytes, const clv_verify_options *options,
                               clv_document *out, clv_error *err)
{
    clv_document document;
    CLV_TRY(clv_document_parse(bytes, &document, err));
    if (document.kind != options->kind)
        return clv_fail(err, CLV_ATT_KIND, "expected a document of kind %s, found %s",
                        clv_document_kind_name(options->kind),
                        clv_document_kind_name(document.kind));
    clv_auto(clv_certificate) leaf = CLV_CERTIFICATE_INIT;
    CLV_TRY(clv_chain_verify(&document, options->root_sha256, options->at_ms, &leaf, err));
    CLV_TRY(clv_cose_verify(document.protected_header, document.payload, document.signature,
                            leaf.key, err));
    *out = document;
    return CLV_OK;
}
