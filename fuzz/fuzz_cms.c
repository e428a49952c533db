/* Any bytes as CiphertextForRecipient: parsed, and where that succeeds decrypted with a fixed
 * content key, so that the padding is reached too. Nothing may crash, leak or read out of bounds.
 */
#include <kms/cms.h>

#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static clv_secret *content_key;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (clv_secret_start(NULL) != CLV_OK ||
        clv_secret_new(CLV_CMS_CONTENT_KEY_SIZE, &content_key, NULL) != CLV_OK)
        abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    clv_auto(clv_cms) cms = CLV_CMS_INIT;
    clv_auto_ptr(clv_secret) opened = NULL;
    if (clv_cms_parse(CLV_BYTES(data, size), &cms, NULL) != CLV_OK)
        return 0;
    if (cms.content.n == 0 || cms.content.n % CLV_CMS_BLOCK_SIZE != 0 ||
        cms.recipient_id.n != CLV_CMS_RECIPIENT_ID_SIZE || cms.iv.n != CLV_CMS_BLOCK_SIZE)
        abort();
    clv_status status = clv_cms_decrypt(&cms, content_key, &opened, NULL);
    if ((status == CLV_OK) != (opened != NULL) || (status != CLV_OK && status != CLV_CMS_OPEN))
        abort();
    return 0;
}
