// SPDX-License-Identifier: Apache-2.0
// The filters of PNG's rows, undone.
#include "image/png.h"

#include <string.h>

static int paeth_one(int a, int b, int c)
{
    int pa = b - c, pb = a - c, pc = pa + pb;
    pa = pa < 0 ? -pa : pa;
    pb = pb < 0 ? -pb : pb;
    pc = pc < 0 ? -pc : pc;
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

static void paeth_bytes(uint8_t *x, const uint8_t *up, size_t first, size_t n, size_t k)
{
    for (size_t i = first; i < n; i++)
        x[i] = (uint8_t)(x[i] + (i < k ? up[i] : paeth_one(x[i - k], up[i], up[i - k])));
}

#ifdef __SSE2__
#include <emmintrin.h>

#define INLINE static inline __attribute__((always_inline))

// Four bytes as values of 16 bits.
INLINE __m128i load_four(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), _mm_setzero_si128());
}

INLINE __m128i magnitude(__m128i x)
{
    return _mm_max_epi16(x, _mm_sub_epi16(_mm_setzero_si128(), x));
}

INLINE __m128i choose(__m128i mask, __m128i yes, __m128i no)
{
    return _mm_or_si128(_mm_and_si128(mask, yes), _mm_andnot_si128(mask, no));
}

// A pixel of k = 3 or 4 bytes at once: its values depend on the pixel before, not on each other.
// Four bytes are read; the last pixel of three is left to paeth_bytes.
INLINE void paeth_pixels(uint8_t *x, const uint8_t *up, size_t n, const size_t k)
{
    __m128i a = _mm_setzero_si128(), c = a;
    size_t i = 0;
    for (; i + 4 <= n; i += k) {
        __m128i b = load_four(up + i), pa = _mm_sub_epi16(b, c), pb = _mm_sub_epi16(a, c);
        __m128i pc = magnitude(_mm_add_epi16(pa, pb));
        pa = magnitude(pa);
        pb = magnitude(pb);
        __m128i least = _mm_min_epi16(pc, _mm_min_epi16(pa, pb));
        __m128i best =
            choose(_mm_cmpeq_epi16(least, pa), a, choose(_mm_cmpeq_epi16(least, pb), b, c));
        // modulo 256, so bytes are added
        a = _mm_add_epi8(load_four(x + i), best);
        c = b;
        int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(a, a));
        memcpy(x + i, &four, k);
    }
    paeth_bytes(x, up, i, n, k);
}

static void paeth(uint8_t *x, const uint8_t *up, size_t n, size_t k)
{
    if (k == 3)
        paeth_pixels(x, up, n, 3);
    else if (k == 4)
        paeth_pixels(x, up, n, 4);
    else
        paeth_bytes(x, up, 0, n, k);
}
#else
static void paeth(uint8_t *x, const uint8_t *up, size_t n, size_t k)
{
    paeth_bytes(x, up, 0, n, k);
}
#endif

int png_unfilter(uint8_t *row, const uint8_t *before, size_t n, size_t k, struct err *e)
{
    uint8_t *x = row + 1;
    const uint8_t *up = before + 1;
    switch (row[0]) {
    case 0:
        return 0;
    case 1:
        for (size_t i = k; i < n; i++)
            x[i] = (uint8_t)(x[i] + x[i - k]);
        return 0;
    case 2:
        for (size_t i = 0; i < n; i++)
            x[i] = (uint8_t)(x[i] + up[i]);
        return 0;
    case 3:
        for (size_t i = 0; i < n; i++)
            x[i] = (uint8_t)(x[i] + ((i < k ? 0 : x[i - k]) + up[i]) / 2);
        return 0;
    case 4:
        paeth(x, up, n, k);
        return 0;
    default:
        return err_set(e, "PNG: unknown filter %d", row[0]);
    }
}
