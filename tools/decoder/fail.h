/* SPDX-License-Identifier: MIT */
/* Error texts of the decoder: what, which object, the numbers, the cause. */
#ifndef PENSTOCK_DECODER_FAIL_H
#define PENSTOCK_DECODER_FAIL_H

#include <penstock/penstock.h>

/**
 * decoder_fail() - record a failure
 * @err: where to; may be NULL
 * @code: negative errno
 * @fmt: text, without the errno's own description, which is appended
 * Return: @code.
 */
int decoder_fail(struct penstock_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), cold));

#endif
