// SPDX-License-Identifier: MIT
/* A stranger's C program: public headers by their installed names only. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <penstock/penstock.h>
#include <penstock/kabi.h>

int main(void)
{
	struct penstock_options opts = PENSTOCK_OPTIONS_INIT;
	struct penstock_model *model = NULL;
	struct penstock_pool *pool = NULL;
	struct penstock_error err = { 0 };
	struct penstock_ctx *ctx = NULL;
	int rc;

	if (strcmp(penstock_dtype_info(PENSTOCK_DTYPE_BF16)->name, "BF16"))
		return 1;
	if (penstock_pool_create(1, PENSTOCK_ISA_REF, 0, &pool))
		return 2;
	penstock_pool_destroy(pool);
	rc = penstock_open(&opts, &ctx, &err);
	if (rc) {
		printf("open: %d %s\n", rc, err.text);
		return 3;
	}
	rc = penstock_model_open(ctx, "/nonexistent", NULL, &model, &err);
	printf("%s: %d %s\n", PENSTOCK_VERSION, rc, err.text);
	penstock_close(ctx);
	return rc == -ENOENT && err.text[0] ? 0 : 4;
}
