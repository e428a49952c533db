#include "vectors.h"

#include <stdio.h>
#include <stdlib.h>

#include <base/file.h>

void vectors_path(const char *folder, char out[512])
{
    const char *root = getenv("CLAVIGER_VECTORS");
    if (root == NULL)
        root = getenv("CLAVIGER_VECTORS_DEFAULT");
    snprintf(out, 512, "%s/%s", root != NULL ? root : "", folder);
}

bool vectors_read(const char *folder, const char *name, clv_buf *out)
{
    char directory[512], path[1024];
    vectors_path(folder, directory);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return clv_file_read(path, CLV_DOCUMENT_MAX, out, NULL) == CLV_OK;
}
