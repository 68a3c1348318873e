// SPDX-License-Identifier: MIT
/*
 * A checkpoint's folder. Input: config.json, the header of a safetensors file, an
 * index JSON (or nothing), with a zero byte between them. The file gets the length
 * that the largest number in its header asks for, so that valid ones are common.
 */
#include "fuzz.h"

/* The largest number of at most 7 digits: the end of the last tensor, where a header is right. */
static uint64_t largest_number(const uint8_t *p, size_t len)
{
	uint64_t max = 0, n = 0;
	size_t i, digits = 0;

	for (i = 0; i < len; i++) {
		if (p[i] >= '0' && p[i] <= '9') {
			n = digits++ ? n * 10 + (uint64_t)(p[i] - '0') : (uint64_t)(p[i] - '0');
			if (digits <= 7 && n > max)
				max = n;
		} else {
			digits = 0;
		}
	}
	return max;
}

static int fuzz_folder(const uint8_t *data, size_t size)
{
	const uint8_t *header, *json, *end = data + size;
	uint64_t len;
	uint8_t *file;

	header = memchr(data, 0, size);
	if (!header || (size_t)(header - data) > size - 1)
		return 0;
	fuzz_write(fuzz_path("config.json"), data, (size_t)(header - data), (uint64_t)(header - data));
	header++;
	json = memchr(header, 0, (size_t)(end - header));
	len = (uint64_t)((json ? json : end) - header);
	file = malloc(8 + len);
	FUZZ_NEED(file);
	memcpy(file, &len, 8);
	memcpy(file + 8, header, len);
	fuzz_write(fuzz_path("model.safetensors"), file, 8 + len, 8 + len + largest_number(header, len));
	free(file);
	unlink(fuzz_path("model.safetensors.index.json"));
	if (json && json + 1 < end)
		fuzz_write(fuzz_path("model.safetensors.index.json"), json + 1, (size_t)(end - json - 1),
			   (uint64_t)(end - json - 1));
	fuzz_open(fuzz_dir());
	return 0;
}

FUZZ_TARGET(fuzz_folder)
