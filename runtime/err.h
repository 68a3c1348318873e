/* SPDX-License-Identifier: MIT */
/*
 * Error texts: written once, where a failure is first seen, and passed on
 * unchanged. A text says what, which object, the numbers, the cause.
 */
#ifndef PENSTOCK_ERR_H
#define PENSTOCK_ERR_H

#include <penstock/penstock.h>

/**
 * penstock_err() - record a failure
 * @e: where to; NULL = nobody wants it
 * @code: negative errno
 * @fmt: text, without the errno's own description, which is appended
 * Return: @code, so that callers can return penstock_err(...).
 */
int penstock_err(struct penstock_error *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), cold));

/** penstock_err_clear() - forget the last failure */
void penstock_err_clear(struct penstock_error *e);

#endif
