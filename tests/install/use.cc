// SPDX-License-Identifier: MIT
/* A stranger's C++ program: the same calls from the other language. */
#include <cerrno>
#include <cstring>
#include <penstock/penstock.h>
#include <penstock/kabi.h>

int main()
{
	penstock_options opts = PENSTOCK_OPTIONS_INIT;
	penstock_error err = {};
	penstock_model *model = nullptr;
	penstock_pool *pool = nullptr;
	penstock_ctx *ctx = nullptr;

	if (std::strcmp(penstock_dtype_info(PENSTOCK_DTYPE_BF16)->name, "BF16"))
		return 1;
	if (penstock_pool_create(1, PENSTOCK_ISA_REF, 0, &pool))
		return 2;
	penstock_pool_destroy(pool);
	if (penstock_open(&opts, &ctx, &err))
		return 3;
	int rc = penstock_model_open(ctx, "/nonexistent", nullptr, &model, &err);
	penstock_close(ctx);
	return rc == -ENOENT && err.text[0] ? 0 : 4;
}
