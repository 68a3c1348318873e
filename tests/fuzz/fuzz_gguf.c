// SPDX-License-Identifier: MIT
/* One GGUF file. Input: 3 bytes of zeros that follow it, then the file as it is. */
#include "fuzz.h"

static int fuzz_gguf(const uint8_t *data, size_t size)
{
	uint64_t tail;

	if (size < 3)
		return 0;
	/* at most 128 KiB: a file of zeros is a table of tensors without names, 24 bytes each */
	tail = (uint64_t)data[0] | (uint64_t)data[1] << 8 | (uint64_t)(data[2] & 1) << 16;
	fuzz_write(fuzz_path("m.gguf"), data + 3, size - 3, size - 3 + tail);
	fuzz_open(fuzz_path("m.gguf"));
	return 0;
}

FUZZ_TARGET(fuzz_gguf)
